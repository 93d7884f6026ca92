"""Average precision of classes over images, and its mean: how multi-label recognition is scored.

    precisions = class_precisions(scores, truth)          # [C], NaN for a class without positives
    mean_precision(precisions)

Non-interpolated: the mean, over a class's positives, of the precision at their scores; images with
equal scores are taken together, as torchmetrics does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from .bootstrap import SEED, draws_of
from .tags import Flags, Floats, average_precision

MAP_DRAWS = 500  # of `drawn_means`, which ranks every class again in each


def class_precisions(
    scores: npt.ArrayLike, truth: npt.ArrayLike, scored: npt.ArrayLike | None = None
) -> Floats:
    """Average precision of each class: float64 [C], NaN where a class has no positives.

    Args:
        scores: float [N, C] of N images, higher is likelier.
        truth: bool [N, C].
        scored: bool [N, C]; an image is left out of the ranking of a class where it is False.
    Errors: TTDError for other shapes and for scores that are not finite.
    """
    values, true, kept = _checked(scores, truth, scored)
    found = np.full(values.shape[1], np.nan)
    for k in range(values.shape[1]):
        rows = kept[:, k]
        if true[rows, k].any():
            found[k] = average_precision(values[rows, k], true[rows, k])
    return found


def _checked(
    scores: npt.ArrayLike, truth: npt.ArrayLike, scored: npt.ArrayLike | None
) -> tuple[Floats, Flags, Flags]:
    """Scores, truth and what counts, each [N, C]. Errors: `class_precisions`."""
    values, true = np.asarray(scores, np.float64), np.asarray(truth, bool)
    kept: Flags = np.ones_like(true) if scored is None else np.asarray(scored, bool)
    if values.ndim != 2 or not values.shape == true.shape == kept.shape:
        shapes = f"{values.shape}, {true.shape} and {kept.shape}"
        raise TTDError(f"scores, truth and scored must be [images, classes], got {shapes}")
    if not np.isfinite(values).all():
        raise TTDError("scores must be finite numbers; NaN or infinity has no rank")
    return values, true, kept


def mean_precision(precisions: npt.ArrayLike, empty_is_zero: bool = False) -> float:
    """mAP: the mean of the classes' precisions float [C]; NaN where none has any.

    A class without positives (NaN) is left out, as in torchmetrics; `empty_is_zero`: it counts as
    0, as in TagCLIP's code.
    """
    values = np.asarray(precisions, np.float64)
    there = ~np.isnan(values)
    if not there.any():
        return float("nan")
    count = len(values) if empty_is_zero else int(there.sum())
    return float(values[there].sum() / count)


def drawn_means(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    scored: npt.ArrayLike | None = None,
    draws: int = MAP_DRAWS,
    seed: int = SEED,
) -> Floats:
    """mAP of every draw of the images, float64 [draws]; for `bootstrap.interval`.

    Args and errors as `class_precisions`. The same number of images gives the same draws. A class
    without positives in a draw is left out of its mean.
    """
    values, true, kept = _checked(scores, truth, scored)
    ranked = []
    for k in range(values.shape[1]):
        rows = np.flatnonzero(kept[:, k])
        order = rows[np.argsort(-values[rows, k], kind="stable")]
        if true[order, k].any():
            ranked.append((order, -values[order, k], true[order, k]))
    parts = []
    for weights in draws_of(len(values), draws, seed):
        by_image = np.ascontiguousarray(weights.T, np.float32)  # [N, d]; counts, so they are exact
        found = [_drawn(by_image, *one) for one in ranked]
        stacked = np.array(found).reshape(len(ranked), len(weights))  # [C', d]
        there = ~np.isnan(stacked)
        sums, counts = np.where(there, stacked, 0.0).sum(0), there.sum(0)
        means = np.full(len(weights), np.nan)
        parts.append(np.divide(sums, counts, out=means, where=counts > 0))
    return np.concatenate(parts)


def _drawn(
    weights: npt.NDArray[np.float32], order: npt.NDArray[np.int64], ascending: Floats, true: Flags
) -> Floats:
    """A class's average precision in draws, [d]; NaN in a draw without a positive.

    weights: how often each image is drawn, [N, d]. order: the class's images, best first, [n];
    ascending: their negative scores; true: which are positive.
    """
    places = np.flatnonzero(true)
    ends = np.searchsorted(ascending, ascending[places], side="right") - 1  # of equal scores
    seen = weights[order].cumsum(0)[ends].astype(np.float64)  # [P, d]: images up to the equals
    own = weights[order[places]].astype(np.float64)
    last = np.searchsorted(places, ends, side="right") - 1  # the last positive among its equals
    hits = own.cumsum(0)[last]
    shares = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    total, gained = own.sum(0), (own * shares).sum(0)
    nothing = np.full(len(total), np.nan)
    found: Floats = np.divide(gained, total, out=nothing, where=total > 0)
    return found
