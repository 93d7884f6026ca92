"""From words and scores to tags: pure functions of the selection step.

A caption is split into words, each word gets a score, the scores of one caption are put on one scale and cut.
"""

import torch

from core.errors import TTDError
from core.words import Word, is_stopword, split_words

__all__ = ["NORMS", "Word", "is_stopword", "minmax", "normalise", "otsu_threshold", "select", "split_words"]

NORMS = ("minmax", "softmax", "none")


def _valid(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return torch.ones_like(scores, dtype=torch.bool)
    if mask.shape != scores.shape:
        raise TTDError(
            f"the mask of words has shape {tuple(mask.shape)}, the scores {tuple(scores.shape)}: give one flag per word"
        )
    return mask.bool()


def minmax(scores: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Scale the scores of each caption to [0, 1] over its own words: (s - min) / (max - min).

    scores [..., K]; mask [..., K] bool, False for padding (which gets 0 and never counts). Where all words of a
    caption score the same, one-word captions among them, each gets 1. Raises TTDError when the shapes differ.
    """
    valid = _valid(scores, mask)
    low = scores.masked_fill(~valid, float("inf")).amin(-1, keepdim=True)
    span = scores.masked_fill(~valid, float("-inf")).amax(-1, keepdim=True) - low
    flat = span <= 0
    scaled = torch.where(flat, torch.ones_like(scores), (scores - low) / torch.where(flat, torch.ones_like(span), span))
    return torch.where(valid, scaled, torch.zeros_like(scores))


def otsu_threshold(scores: torch.Tensor) -> float:
    """Otsu's threshold of one caption's scores [K]: the cut that maximises the variance between the two classes.

    Exact: every cut between two neighbouring distinct values is tried, and the threshold is the middle of the best
    one (the highest of equals); a word is kept when its score is above it. With no two distinct values nothing can
    be separated and the threshold is -inf: all are kept. Raises TTDError for no scores.
    """
    if scores.numel() == 0:
        raise TTDError("Otsu's threshold needs at least one score: the caption has no words")
    values = scores.detach().double().flatten().sort().values
    count = values.numel()
    cuts = [i for i in range(1, count) if values[i] > values[i - 1]]
    if not cuts:
        return float("-inf")
    sums = values.cumsum(0)
    spread = [i * (count - i) * float(sums[i - 1] / i - (sums[-1] - sums[i - 1]) / (count - i)) ** 2 for i in cuts]
    best = max(zip(spread, cuts, strict=True))[1]
    return float((values[best - 1] + values[best]) / 2)


def normalise(scores: torch.Tensor, norm: str = "minmax", logit_scale: float = 100.0) -> torch.Tensor:
    """Put the raw scores [K] of one caption on one scale: `minmax`, `softmax` (times `logit_scale`) or `none`."""
    if norm == "minmax":
        return minmax(scores)
    if norm == "softmax":
        return (scores * logit_scale).softmax(-1)
    if norm == "none":
        return scores
    raise TTDError(f"unknown normalisation '{norm}' of scores: choose one of {', '.join(NORMS)}")


def select(
    scores: torch.Tensor,
    rejected: torch.Tensor | None = None,
    *,
    norm: str = "minmax",
    threshold: float | None = None,
    logit_scale: float = 100.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalise and cut the scores of one caption -> (selected [K] bool, normalised [K]).

    scores [K] raw; rejected [K] bool, words that may not be chosen (function words). `threshold` a constant in the
    normalised scale (kept when >=), or None for Otsu's over all the words (kept when >); both scale and cut are
    those of the whole caption, and rejected words are then taken out. A single word is kept, unless rejected.
    """
    norms = normalise(scores, norm, logit_scale)
    allowed = torch.ones_like(scores, dtype=torch.bool) if rejected is None else ~_valid(scores, rejected)
    if scores.numel() == 1:
        return allowed, norms
    kept = norms >= threshold if threshold is not None else norms > otsu_threshold(norms)
    return kept & allowed, norms
