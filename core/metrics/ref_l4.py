"""Ref-L4's accuracies: strict IoU, by size of the box, and as the mean over classes.

As in the release's evaluator: single precision decides, and a box counts where IoU > threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from .boxes import Values

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))
SMALL, LARGE = 128, 256  # sqrt(w h) in pixels: below small, above large
# Objects365's class for RefCOCO's, as the release maps them before it takes the mean over classes:
# "refcoco_1" is "o365_1", "refcoco_10" is "o365_41", ... (refcoco_37 has none and stays alone).
_SAME = (
    "1:1 10:41 11:177 13:128 14:250 15:25 16:56 17:140 18:93 19:79 2:47 20:100 21:97 22:145 23:296 "
    "24:179 25:181 27:39 28:40 3:6 31:13 32:44 33:194 34:220 35:119 36:174 37:100000 38:155 39:138 "
    "4:59 40:114 41:146 42:147 43:205 44:9 46:36 47:11 48:89 49:85 5:115 50:94 51:26 52:113 53:83 "
    "54:266 55:104 56:142 57:153 58:235 59:144 6:56 60:151 61:98 62:3 63:51 64:26 65:76 67:98 "
    "7:117 70:154 72:37 73:74 74:116 75:133 76:107 77:62 78:164 79:135 8:66 80:278 81:82 82:134 "
    "84:19 85:95 86:31 87:170 88:70 89:328 9:22 90:227"
)
CLASSES = {
    f"refcoco_{own}": f"o365_{other}" for own, _, other in (p.partition(":") for p in _SAME.split())
}


def strict_accuracies(ious: Values) -> tuple[float, float]:
    """The shares of N boxes with IoU > 0.5, and > t meaned over 0.50, 0.55, ... 0.95. NaN for none.

    ious: [N].
    """
    if not len(ious):
        return float("nan"), float("nan")
    shares = [share_above(ious, threshold) for threshold in THRESHOLDS]
    return shares[0], float(np.mean(shares))


def above(ious: Values, threshold: float) -> Flags:
    """Whether IoU > threshold, both in single precision: ious [N] -> bool [N]."""
    flags: Flags = ious.astype(np.float32) > np.float32(threshold)
    return flags


def share_above(ious: Values, threshold: float) -> float:
    """The share of N >= 1 boxes with IoU > threshold, both in single precision; ious [N]."""
    return float(above(ious, threshold).mean())


def size_groups(sizes: Values) -> dict[str, Flags]:
    """Which of N boxes are small, medium, large, bool [N]; sizes [N]: sqrt(w h) in pixels."""
    return {
        "small": sizes < SMALL,
        "medium": (sizes >= SMALL) & (sizes <= LARGE),
        "large": sizes > LARGE,
    }


def class_rows(classes: Sequence[str]) -> dict[str, Rows]:
    """Which of N boxes are of a class, such as "refcoco_1", by its name in order.

    Classes of RefCOCO go by Objects365's name.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(classes):
        rows.setdefault(CLASSES.get(name, name), []).append(row)
    return {name: np.array(rows[name]) for name in sorted(rows)}


def ref_l4_scores(
    ious: npt.ArrayLike, sizes: npt.ArrayLike, classes: Sequence[str]
) -> dict[str, float]:
    """All numbers, fractions; NaN for a size without boxes.

    Args:
        ious: [N], N >= 1. sizes: sqrt(w h) of the true boxes in pixels, [N].
        classes: `ori_category_id` of each, such as "refcoco_1" or "o365_12".
    `acc@0.5`, `acc@0.75`, `acc@0.9`, `macc`; `small_`, `medium_` (128 to 256 pixels), `large_` and
    `class_` `acc@0.5` and `macc`; `class_*`: the mean over classes. TTDError for other shapes.
    """
    values, lengths = np.asarray(ious, np.float64), np.asarray(sizes, np.float64)
    if not len(values) or not len(values) == len(lengths) == len(classes):
        raise TTDError("Ref-L4: needs an IoU, a size and a class for each of at least one box")
    scores = {f"acc@{t:g}": share_above(values, t) for t in (0.5, 0.75, 0.9)}
    scores["macc"] = strict_accuracies(values)[1]
    for name, rows in size_groups(lengths).items():
        scores[f"{name}_acc@0.5"], scores[f"{name}_macc"] = strict_accuracies(values[rows])
    by_class = [strict_accuracies(values[rows]) for rows in class_rows(classes).values()]
    scores["class_acc@0.5"], scores["class_macc"] = map(float, np.mean(by_class, axis=0))
    return scores
