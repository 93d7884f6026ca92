"""What reports are made of: elements and tables, charts, images, sections that several have."""
