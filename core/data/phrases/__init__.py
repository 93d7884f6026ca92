"""Phrases of images with their masks or boxes, as benchmarks of phrases release them."""
