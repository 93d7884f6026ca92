"""Charts of numbers: axes, curves, histograms, and those of a curriculum."""
