"""The small CLIP of the offline world, trained from scratch."""
