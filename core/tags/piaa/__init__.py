"""PIAA (ICML 2026): classes of an image from its patches, by a classifier fitted without labels."""
