"""The referring world: expressions with boxes, and what detectors say of its images."""
