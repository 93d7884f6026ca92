"""Which words of a caption are in the image: scores, selection, result files."""
