"""From an image to similarity maps: views, grids, sliding windows."""
