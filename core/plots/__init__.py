"""Images for people, drawn with Pillow."""
