"""Masks and boxes of phrases against benchmarks that others publish."""
