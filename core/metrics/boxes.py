"""How good boxes are: accuracy at IoU thresholds, mean IoU, by phrase length and box size.

All functions take one entry per phrase, N in all; results are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import TTDError

Values = npt.NDArray[np.float64]
THRESHOLDS = (0.25, 0.5, 0.75, 0.9)
SMALL, LARGE = 0.05, 0.25  # shares of the image between small, medium and large boxes
LENGTHS = ((1, 3), (4, 5), (6, 7), (8, None))  # words; the bins of published analyses


def box_iou(first: Values, second: Values) -> Values:
    """IoU [N] of corner boxes [N, 4] in pixels; 0 where both are empty."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    inter = np.clip(high - low, 0, None).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (first, second)]
    union = areas[0] + areas[1] - inter
    ious: Values = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return ious


def accuracy(ious: Values, threshold: float = 0.5) -> float:
    """The share of phrases with IoU >= threshold; NaN without phrases."""
    return float((ious >= threshold).mean()) if len(ious) else float("nan")


def box_scores(ious: Values) -> dict[str, float]:
    """`acc@T` for every threshold, `mean_acc` over 0.50, 0.55, ... 0.95, and `miou`.

    TTDError for values that are no IoU.
    """
    ious = np.asarray(ious, np.float64)
    if len(ious) and not (np.isfinite(ious).all() and 0 <= ious.min() <= ious.max() <= 1 + 1e-6):
        raise TTDError("IoUs must be in [0, 1]")
    scores = {f"acc@{threshold:g}": accuracy(ious, threshold) for threshold in THRESHOLDS}
    grid = [accuracy(ious, 0.5 + 0.05 * i) for i in range(10)]
    mean = float(ious.mean()) if len(ious) else float("nan")
    return {**scores, "mean_acc": float(np.mean(grid)), "miou": mean}


def by_length(ious: Values, texts: Sequence[str]) -> dict[str, tuple[int, float]]:
    """Phrases and Acc@0.5 by number of words: {"1-3": (count, accuracy), ..., "8+": ...}."""
    words = np.array([len(text.split()) for text in texts])
    groups = {}
    for low, high in LENGTHS:
        name = f"{low}+" if high is None else f"{low}-{high}"
        inside = (words >= low) & (words <= (high or words.max(initial=low)))
        groups[name] = (int(inside.sum()), accuracy(ious[inside]))
    return groups


def by_size(ious: Values, shares: Values) -> dict[str, tuple[int, float]]:
    """Phrases and Acc@0.5 by the true box's share of the image: small, medium, large."""
    tests: dict[str, Callable[[Values], npt.NDArray[np.bool_]]] = {
        "small": lambda s: s < SMALL,
        "medium": lambda s: (s >= SMALL) & (s < LARGE),
        "large": lambda s: s >= LARGE,
    }
    groups = {}
    for name, test in tests.items():
        inside = test(shares)
        groups[name] = (int(inside.sum()), accuracy(ious[inside]))
    return groups
