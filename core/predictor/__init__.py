"""Encode an image once, ask it many words: `Predictor`, the way in for those who write Python."""

from .predictor import REFINE_SIDE, Predictor

__all__ = ["REFINE_SIDE", "Predictor"]
