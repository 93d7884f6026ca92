"""Encode an image once, ask it many words: `Predictor`, the way in for those who write Python."""

from .memory import held_bytes
from .predictor import REFINE_SIDE, Predictor
from .words import Row, score_words

__all__ = ["REFINE_SIDE", "Predictor", "Row", "held_bytes", "score_words"]
