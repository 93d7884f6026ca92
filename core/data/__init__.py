"""What comes from disk: images, captions, pairs, label maps, data sets."""
