"""How good tags are: precision, recall, F1, accuracy, average precision, best thresholds.

All functions take one entry per word occurrence of all captions, W in all (micro average); numbers
are fractions in [0, 1].
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import TTDError

Flags: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]


class TagScores(NamedTuple):
    """Precision, recall, F1 and accuracy; 0 where nothing was selected or nothing is true."""

    precision: float
    recall: float
    f1: float
    accuracy: float


def tag_scores(selected: npt.ArrayLike, truth: npt.ArrayLike) -> TagScores:
    """P = TP/(TP+FP), R = TP/(TP+FN), F1 = 2PR/(P+R), accuracy = (TP+TN)/W.

    selected, truth: bool [W]. TTDError unless they have one entry per word each.
    """
    chosen, true = _flat(selected, truth, bool)
    hits = int((chosen & true).sum())
    precision, recall = _ratio(hits, int(chosen.sum())), _ratio(hits, int(true.sum()))
    f1 = _ratio(2 * precision * recall, precision + recall)
    accuracy = _ratio(int((chosen == true).sum()), len(true))
    return TagScores(precision, recall, f1, accuracy)


def precision_recall_curve(
    scores: npt.ArrayLike, truth: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and threshold (kept when >=) at every distinct score, highest first.

    scores float [W], truth bool [W] -> [N] each. Equal scores are kept or cut together. TTDError
    unless they have one entry per word each.
    """
    values, true = _flat(scores, truth, float)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(true[order])[ends]
    return hits / (ends + 1), hits / max(1, int(true.sum())), ranked[ends]


def average_precision(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Sum over thresholds of (R_n - R_(n-1)) P_n: the area under the steps of the curve.

    scores float [W], truth bool [W]; equal scores are taken together.
    """
    precision, recall, _ = precision_recall_curve(scores, truth)
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def best_threshold(
    scores: npt.ArrayLike, truth: npt.ArrayLike, allowed: npt.ArrayLike | None = None
) -> tuple[float, TagScores]:
    """The threshold (kept when >=) with the highest F1 of all, and what it gives.

    scores float [W], truth bool [W]; of several equal thresholds the highest. Words that are not
    `allowed` bool [W] (stop words, where a run rejects them) are never selected.
    """
    values, true = _flat(scores, truth, float)
    usable = values if allowed is None else np.where(allowed, values, -np.inf)
    precision, recall, thresholds = precision_recall_curve(usable, true)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    f1[np.isneginf(thresholds)] = -1
    best = float(thresholds[int(f1.argmax())])
    return best, tag_scores(usable >= best, true)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _flat(
    values: npt.ArrayLike, truth: npt.ArrayLike, kind: type
) -> tuple[npt.NDArray[Any], Flags]:
    """Both as arrays [W]; TTDError unless they have one entry per word each, and at least one."""
    flat: npt.NDArray[Any] = np.asarray(values, dtype=kind).ravel()
    true = np.asarray(truth, dtype=bool).ravel()
    if len(flat) != len(true) or not len(true):
        raise TTDError(
            f"{len(flat)} words scored, {len(true)} with a truth: "
            "one of each per word, at least one"
        )
    return flat, true
