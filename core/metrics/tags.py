"""How good tags are: micro precision, recall, F1 and accuracy over word occurrences, average precision, best cuts.

All functions take one entry per word occurrence of all captions, W in all; numbers are fractions in
[0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import TTDError


class TagScores(NamedTuple):
    """Precision, recall, F1 and accuracy; 0 where nothing was selected or nothing is true."""

    precision: float
    recall: float
    f1: float
    accuracy: float


def truth_of(words: Iterable[str], tags: Sequence[str]) -> np.ndarray:
    """Which words are true tags, whatever their case: bool [K]."""
    true = {tag.casefold() for tag in tags}
    return np.array([word.casefold() in true for word in words], dtype=bool)


def tag_scores(selected: np.ndarray, truth: np.ndarray) -> TagScores:
    """P = TP/(TP+FP), R = TP/(TP+FN), F1 = 2PR/(P+R), accuracy = (TP+TN)/W; selected [W] bool, truth [W] bool."""
    selected, truth = _flat(selected, truth, bool)
    hits = int((selected & truth).sum())
    precision, recall = _ratio(hits, int(selected.sum())), _ratio(hits, int(truth.sum()))
    return TagScores(
        precision,
        recall,
        _ratio(2 * precision * recall, precision + recall),
        _ratio(int((selected == truth).sum()), len(truth)),
    )


def precision_recall_curve(
    scores: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and threshold (kept when >=) at every distinct score [W], from the highest down: [N] each."""
    scores, truth = _flat(scores, truth, float)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(
        np.append(ranked[1:] != ranked[:-1], True)
    )  # equal scores are kept or cut together
    hits = np.cumsum(truth[order])[ends]
    return hits / (ends + 1), hits / max(1, int(truth.sum())), ranked[ends]


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Sum over thresholds of (R_n - R_(n-1)) P_n: the area under the steps of the curve, ties taken together."""
    precision, recall, _ = precision_recall_curve(scores, truth)
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def best_threshold(
    scores: np.ndarray, truth: np.ndarray, allowed: np.ndarray | None = None
) -> tuple[float, TagScores]:
    """The threshold (kept when >=) with the highest F1 there can be, and what it gives; the highest of equals.

    Words that are not `allowed` [W] (function words, where a run rejects them) are never selected.
    """
    scores, truth = _flat(scores, truth, float)
    usable = np.where(True if allowed is None else allowed, scores, -np.inf)
    precision, recall, thresholds = precision_recall_curve(usable, truth)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    f1[np.isneginf(thresholds)] = -1
    best = float(thresholds[int(f1.argmax())])
    return best, tag_scores(usable >= best, truth)


def implied_share(precision: float, recall: float, accuracy: float) -> float:
    """Share of true words that P, R and accuracy imply: with share s, 1 - Acc = FP + FN = s R (1/P - 1) + s (1 - R)."""
    return (1 - accuracy) / (recall / precision - 2 * recall + 1)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _flat(values: np.ndarray, truth: np.ndarray, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays [W]; TTDError unless they have one entry per word each, and at least one."""
    values, truth = np.asarray(values, dtype=kind).ravel(), np.asarray(truth, dtype=bool).ravel()
    if len(values) != len(truth) or not len(truth):
        raise TTDError(
            f"{len(values)} words scored, {len(truth)} with a truth: one of each per word, at least one"
        )
    return values, truth
