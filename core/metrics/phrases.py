"""Average recall of phrases' masks (Panoptic Narrative Grounding, ICCV 2021)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import TTDError

STEP = 1e-5  # between thresholds


def average_recall(ious: npt.ArrayLike) -> float:
    """The area under the share of phrases with IoU >= t, by the left sum of t = 0, 1e-5, ... < 1.

    ious [N] in [0, 1]. That is their mean, up to one step. NaN without phrases; TTDError for what
    is no IoU.
    """
    values = _checked(ious)
    thresholds = np.arange(0, 1, STEP)
    # A phrase adds the widths of all steps that begin at or below its IoU.
    reached = np.searchsorted(thresholds[:-1], values, side="right")
    return float(thresholds[reached].mean()) if len(values) else float("nan")


def phrase_scores(ious: npt.ArrayLike) -> dict[str, float]:
    """`average_recall`, `mean_iou` and `acc@0.5` (IoU > 0.5) of N phrases' ious [N].

    NaN without phrases; TTDError for what is no IoU.
    """
    values = _checked(ious)
    if not len(values):
        return {"average_recall": np.nan, "mean_iou": np.nan, "acc@0.5": np.nan}
    return {
        "average_recall": average_recall(values),
        "mean_iou": float(values.mean()),
        "acc@0.5": float((values > 0.5).mean()),
    }


def _checked(ious: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(ious, np.float64).ravel()
    if len(values) and not (np.isfinite(values).all() and 0 <= values.min() <= values.max() <= 1):
        raise TTDError("IoUs must be in [0, 1]")
    return values
