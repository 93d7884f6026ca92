"""Segmentation scores from counts: IoU, false positives and false negatives, each over TP + FP + FN, so they sum to 1.

Counts are int64 over a whole set. Truth 255 is never scored; a prediction outside the labels is a
false negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import TTDError


@dataclass(frozen=True)
class SegScores:
    """Per class (float64 [L], NaN where a class is in neither truth nor prediction), fractions in [0, 1]."""

    iou: np.ndarray
    fpr: np.ndarray
    fnr: np.ndarray

    @property
    def means(self) -> tuple[float, float, float]:
        """(mIoU, mFPR, mFNR) over the classes that occur; they sum to 1. NaN where none does."""
        there = ~np.isnan(self.iou)
        if not there.any():
            return float("nan"), float("nan"), float("nan")
        return tuple(float(values[there].mean()) for values in (self.iou, self.fpr, self.fnr))


def joint_histogram(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """How often every pair of values occurs: uint8 [H, W] twice -> int64 [256, 256], rows are truth.

    Raises TTDError for different sizes.
    """
    if truth.shape != prediction.shape:
        raise TTDError(
            f"truth of {truth.shape} and prediction of {prediction.shape} differ in size"
        )
    pairs = truth.astype(np.uint16).ravel()
    pairs <<= 8
    pairs |= prediction.ravel()
    return np.bincount(pairs, minlength=1 << 16).reshape(256, 256).astype(np.int64, copy=False)


def confusion_matrix(joint: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """int64 [256, 256] -> [L, L + 1]: rows true labels, columns predicted ones, the last for every other value.

    Rows of values that are no labels (255) are dropped: those pixels are not scored.
    """
    rows = joint[list(labels)]  # [L, 256]
    inside = rows[:, list(labels)]
    return np.concatenate([inside, (rows.sum(1) - inside.sum(1))[:, None]], axis=1)


def scores_of(confusion: np.ndarray) -> SegScores:
    """Scores per class from int64 [L, L + 1] (see `confusion_matrix`)."""
    hits = np.diagonal(confusion)  # [L], the last column has no diagonal
    false_positives = confusion[:, :-1].sum(0) - hits
    false_negatives = confusion.sum(1) - hits
    return scores_from_counts(np.stack([hits, false_positives, false_negatives], axis=-1))


def scores_from_counts(counts: np.ndarray) -> SegScores:
    """Scores from int64 [..., 3] = TP, FP, FN: each over their sum; NaN where all are 0."""
    total = counts.sum(-1).astype(np.float64)
    shares = counts / np.where(total == 0, np.nan, total)[..., None]
    return SegScores(shares[..., 0], shares[..., 1], shares[..., 2])


def foreground_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """TP, FP, FN and TN of two masks bool [H, W] -> int64 [4]. Raises TTDError for different sizes."""
    if truth.shape != prediction.shape:
        raise TTDError(
            f"truth of {truth.shape} and prediction of {prediction.shape} differ in size"
        )
    hits = np.count_nonzero(truth & prediction)
    true, predicted = np.count_nonzero(truth), np.count_nonzero(prediction)
    return np.array(
        [hits, predicted - hits, true - hits, truth.size - true - predicted + hits], np.int64
    )


def threshold_counts(
    scores: np.ndarray, truth: np.ndarray, thresholds: Sequence[float]
) -> np.ndarray:
    """TP, FP, FN of `scores > threshold` against truth bool, both [H, W] -> int64 [S, 3] for S ascending thresholds.

    One pass over the pixels however many thresholds. A score equal to a threshold is background, as
    arg-max with the background first has it.
    """
    cuts = np.asarray(thresholds, np.float32)
    if (np.diff(cuts) <= 0).any():
        raise TTDError("thresholds must ascend")
    above = np.searchsorted(
        cuts, scores.astype(np.float32).ravel(), side="left"
    )  # number of thresholds below a score
    bins = np.bincount(above * 2 + truth.ravel(), minlength=2 * (len(cuts) + 1)).reshape(-1, 2)
    kept = bins[::-1].cumsum(0)[::-1][1:]  # [S, 2]: pixels over threshold s, false and true
    return np.stack([kept[:, 1], kept[:, 0], np.count_nonzero(truth) - kept[:, 1]], axis=-1).astype(
        np.int64
    )


def best_threshold(counts: np.ndarray, thresholds: Sequence[float]) -> float:
    """The threshold with the best mean IoU over maps, from int64 [maps, S, 3]; the lowest one of several equal ones."""
    iou = scores_from_counts(counts).iou  # [maps, S]
    there = ~np.isnan(iou).all(1)
    if not there.any():
        raise TTDError("no map with any foreground, so no threshold is best")
    return float(thresholds[int(np.nanmean(iou[there], axis=0).argmax())])


def label_baselines(
    truth: np.ndarray, labels: Sequence[int], names: Sequence[str], background: bool, seed: int = 0
) -> dict[str, SegScores]:
    """What needs no model, from the pixels of each label int64 [L]: constants and a random map.

    all-foreground is the commonest class everywhere; all-background is label 0 everywhere, or
    nothing at all where the set has no background; the random map draws every pixel's label evenly
    (as one multinomial draw per true label, which is the same distribution).
    """
    first = int(background)
    commonest = first + int(truth[first:].argmax())
    rng = np.random.default_rng(seed)
    count = len(labels)
    noise = np.stack([rng.multinomial(pixels, np.full(count, 1 / count)) for pixels in truth])
    return {
        f"all foreground ({names[commonest]})": scores_of(_constant(truth, commonest)),
        "all background": scores_of(_constant(truth, 0 if background else count)),
        "random map": scores_of(np.concatenate([noise, np.zeros((count, 1), np.int64)], axis=1)),
    }


def caption_baselines(truth: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """TP, FP, FN int64 [B, 3] of the trivial masks, from foreground and background pixels of each caption [B, 2]."""
    true, rest = truth[:, 0], truth[:, 1]
    none = np.zeros_like(true)
    rng = np.random.default_rng(seed)
    hits, alarms = rng.binomial(true, 0.5), rng.binomial(rest, 0.5)
    return {
        "all foreground": np.stack([true, rest, none], 1),
        "all background": np.stack([none, none, true], 1),
        "random map": np.stack([hits, alarms, true - hits], 1),
    }


def _constant(truth: np.ndarray, column: int) -> np.ndarray:
    """The confusion matrix [L, L + 1] of predicting one label (or none, column L) everywhere."""
    confusion = np.zeros((len(truth), len(truth) + 1), np.int64)
    confusion[:, column] = truth
    return confusion
