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
from .tags import Flags, Floats, average_precision


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
    values, true = np.asarray(scores, np.float64), np.asarray(truth, bool)
    kept: Flags = np.ones_like(true) if scored is None else np.asarray(scored, bool)
    if values.ndim != 2 or not values.shape == true.shape == kept.shape:
        shapes = f"{values.shape}, {true.shape} and {kept.shape}"
        raise TTDError(f"scores, truth and scored must be [images, classes], got {shapes}")
    if not np.isfinite(values).all():
        raise TTDError("scores must be finite numbers; NaN or infinity has no rank")
    found = np.full(values.shape[1], np.nan)
    for k in range(values.shape[1]):
        rows = kept[:, k]
        if true[rows, k].any():
            found[k] = average_precision(values[rows, k], true[rows, k])
    return found


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
