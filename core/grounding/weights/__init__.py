"""Weights of a grounding model: our files, and the published checkpoints."""
