"""From words and scores to tags: pure functions of the selection step.

A caption is split into words, each word gets a score, the scores of one caption are put on one
scale and cut. All functions take one caption's scores [K] or those of many captions [..., K] with a
mask of which entries are words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import TTDError
from .protocol import NORMS

WITHOUT_FLOAT64 = ("mps",)  # kinds of devices: Apple's GPU


def _flags(scores: Tensor, flags: Tensor | None, default: bool) -> Tensor:
    """bool of the scores' shape [..., K]; TTDError when given flags have another one."""
    if flags is None:
        return torch.full_like(scores, default, dtype=torch.bool)
    if flags.shape != scores.shape:
        raise TTDError(
            f"the mask of words has shape {tuple(flags.shape)}, the scores {tuple(scores.shape)}: "
            "give one flag per word"
        )
    return flags.bool()


def minmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scale the scores of each caption to [0, 1] over its own words: (s - min) / (max - min).

    scores [..., K]; mask [..., K] bool, False for padding (which gets 0 and never counts). Where
    all words of a caption score the same, one-word captions among them, each gets 1. Raises
    TTDError when the shapes differ.
    """
    valid = _flags(scores, mask, True)
    low = scores.masked_fill(~valid, float("inf")).amin(-1, keepdim=True)
    span = scores.masked_fill(~valid, float("-inf")).amax(-1, keepdim=True) - low
    flat = span <= 0
    ones = torch.ones_like(span)
    scaled = torch.where(flat, ones, (scores - low) / torch.where(flat, ones, span))
    return torch.where(valid, scaled, torch.zeros_like(scores))


def otsu_thresholds(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Otsu's threshold of each caption, float64 [...], on the scores' device.

    The cut with the largest variance between the two classes (Otsu, 1979). scores [..., K], mask
    as in `minmax`. Exact: every cut between two neighbouring distinct values is tried, and the
    threshold is the middle of the best one (the highest of equals); a word is kept when its score
    is above it. With no two distinct values nothing can be separated and the threshold is -inf:
    all are kept.

    Where the device has no float64 it is computed on the CPU, and is float32: the next below, which
    no score in float32 can tell from the exact one.
    """
    valid = _flags(scores, mask, True)
    if scores.device.type in WITHOUT_FLOAT64:
        return _rounded_down(_exact_thresholds(scores.cpu(), valid.cpu())).to(scores.device)
    return _exact_thresholds(scores, valid)


def _rounded_down(values: Tensor) -> Tensor:
    """float64 [...] to the largest float32 [...] that is not above it."""
    near = values.float()
    return torch.where(near > values, near.nextafter(torch.full_like(near, -torch.inf)), near)


def _exact_thresholds(scores: Tensor, valid: Tensor) -> Tensor:
    """`otsu_thresholds` float64 [...], of scores [..., K] on a device that has it."""
    count = valid.sum(-1, keepdim=True)
    values = scores.detach().double().masked_fill(~valid, float("inf")).sort(-1).values
    known = torch.where(values.isinf(), torch.zeros_like(values), values)
    sums = known.cumsum(-1)[..., :-1]  # of the words below each cut
    below = torch.arange(1, scores.shape[-1], device=scores.device)
    above = (count - below).clamp(min=1)
    gap = sums / below - (known.sum(-1, keepdim=True) - sums) / above
    possible = (below < count) & (values[..., 1:] > values[..., :-1])
    variance = (below * above * gap**2).masked_fill(~possible, float("-inf"))
    none = torch.full_like(known.sum(-1), float("-inf"))
    if not variance.shape[-1]:
        return none
    # argmax takes the first of equals, so it runs from the highest cut down.
    best = variance.shape[-1] - 1 - variance.flip(-1).argmax(-1, keepdim=True)
    middle = (known.gather(-1, best) + known.gather(-1, best + 1)) / 2
    return torch.where(possible.any(-1), middle[..., 0], none)


def otsu_threshold(scores: Tensor) -> float:
    """`otsu_thresholds` of one caption's scores [...], of any shape.

    Errors: TTDError for no scores.
    """
    if scores.numel() == 0:
        raise TTDError("Otsu's threshold needs at least one score: the caption has no words")
    return float(otsu_thresholds(scores.flatten()))


def normalize(
    scores: Tensor, norm: str = "minmax", logit_scale: float = 100.0, mask: Tensor | None = None
) -> Tensor:
    """Put the raw scores [..., K] of each caption on one scale.

    norm: `minmax`, `softmax` (over the words, of `logit_scale` times the scores) or `none`.
    Padding (mask False) gets 0. Raises TTDError for another name, and lists these.
    """
    valid = _flags(scores, mask, True)
    if norm == "minmax":
        return minmax(scores, valid)
    if norm == "softmax":
        # A finite filling: a caption of nothing but padding must not become NaN.
        logits = (scores * logit_scale).masked_fill(~valid, -1e9)
        return logits.softmax(-1).masked_fill(~valid, 0)
    if norm == "none":
        return scores.masked_fill(~valid, 0)
    raise TTDError(f"unknown normalization '{norm}' of scores: choose one of {', '.join(NORMS)}")


def select(
    scores: Tensor,
    rejected: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    norm: str = "minmax",
    threshold: float | None = None,
    logit_scale: float = 100.0,
    min_score: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Normalize and cut the scores of each caption.

    scores [..., K] raw; rejected [..., K] bool, words that may not be chosen (function words); mask
    as in `minmax`. `threshold` is a constant in the normalized scale (kept when >=), or None for
    Otsu's over all the words (kept when >); both scale and cut are those of the whole caption, and
    rejected words are then taken out. A single word is kept, unless rejected. Last, words whose raw
    score lies below `min_score` are taken out, all of them if need be.
    Returns which words are selected, bool [..., K], and the normalized scores [..., K].
    """
    valid = _flags(scores, mask, True)
    allowed = valid & ~_flags(scores, rejected, False)
    norms = normalize(scores, norm, logit_scale, valid)
    if threshold is None:
        cuts = otsu_thresholds(norms, valid)[..., None]
        kept = norms.to(cuts.dtype) > cuts
    else:
        kept = norms >= threshold
    single = valid.sum(-1, keepdim=True) == 1
    kept = (kept | single) & allowed
    if min_score is not None:
        kept &= scores >= min_score
    return kept, norms
