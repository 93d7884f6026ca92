"""Segmentation scores from counts: IoU, false positive and false negative rate per class.

Each is divided by TP + FP + FN, so that the three sum to 1: IoU = TP / (TP + FP + FN), FPR = FP /
(TP + FP + FN), FNR = FN / (TP + FP + FN). Counts are int64 over a whole set. Truth 255 is never
scored; a prediction outside the labels is a false negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import TTDError

Counts: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.uint8]  # [H, W]
Mask: TypeAlias = npt.NDArray[np.bool_]  # [H, W]


@dataclass(frozen=True)
class SegScores:
    """Fractions in [0, 1] per class, float64 [..., L].

    NaN where a class is in neither truth nor prediction.
    """

    iou: Floats
    fpr: Floats
    fnr: Floats

    @property
    def means(self) -> tuple[float, float, float]:
        """(mIoU, mFPR, mFNR) over the classes that occur; they sum to 1. NaN where none does."""
        there = ~np.isnan(self.iou)
        if not there.any():
            return float("nan"), float("nan"), float("nan")
        iou, fpr, fnr = (float(part[there].mean()) for part in (self.iou, self.fpr, self.fnr))
        return iou, fpr, fnr


def joint_histogram(truth: Labels, prediction: Labels) -> Counts:
    """How often every pair of values occurs.

    Truth and prediction uint8 [H, W] -> int64 [256, 256], rows are truth. Raises TTDError for
    different sizes.
    """
    _check_sizes(truth, prediction)
    pairs = truth.astype(np.uint16).ravel()
    pairs <<= 8
    pairs |= prediction.ravel()
    counts = np.bincount(pairs, minlength=1 << 16)
    return counts.reshape(256, 256).astype(np.int64, copy=False)


def confusion_matrix(joint: Counts, labels: Sequence[int]) -> Counts:
    """A joint histogram int64 [256, 256] -> int64 [L, L + 1].

    Rows are true labels, columns predicted ones, the last column counts every other prediction.
    Rows of values that are no labels (255) are dropped: those pixels are not scored.
    """
    rows = joint[list(labels)]  # [L, 256]
    inside = rows[:, list(labels)]  # [L, L]
    others = rows.sum(1) - inside.sum(1)
    return np.concatenate([inside, others[:, None]], axis=1)


def scores_of(confusion: Counts) -> SegScores:
    """Scores per class [L] from int64 [L, L + 1] (see `confusion_matrix`)."""
    return scores_from_counts(counts_of(confusion))


def counts_of(confusion: Counts) -> Counts:
    """TP, FP, FN per class int64 [L, 3] from int64 [L, L + 1] (see `confusion_matrix`)."""
    hits = np.diagonal(confusion)  # [L], the last column has no diagonal
    false_positives = confusion[:, :-1].sum(0) - hits
    false_negatives = confusion.sum(1) - hits
    return np.stack([hits, false_positives, false_negatives], axis=-1)


def scores_from_counts(counts: Counts) -> SegScores:
    """Scores [...] from int64 [..., 3] = TP, FP, FN: each over their sum; NaN where all are 0."""
    total = counts.sum(-1).astype(np.float64)
    shares = counts / np.where(total == 0, np.nan, total)[..., None]
    return SegScores(shares[..., 0], shares[..., 1], shares[..., 2])


def foreground_counts(truth: Mask, prediction: Mask) -> Counts:
    """TP, FP, FN and TN of two masks bool [H, W] -> int64 [4]. TTDError for different sizes."""
    _check_sizes(truth, prediction)
    hits = np.count_nonzero(truth & prediction)
    true, predicted = np.count_nonzero(truth), np.count_nonzero(prediction)
    neither = truth.size - true - predicted + hits
    return np.array([hits, predicted - hits, true - hits, neither], np.int64)


def thresholds_below(scores: npt.NDArray[Any], thresholds: Sequence[float]) -> npt.NDArray[np.intp]:
    """How many of S ascending thresholds lie below each score: [...] -> int [...], 0 to S.

    A score equal to a threshold is not above it, as arg-max with the background first has it.
    Compared in float32. Raises TTDError when the thresholds do not ascend.
    """
    cuts = np.asarray(thresholds, np.float32)
    if (np.diff(cuts) <= 0).any():
        raise TTDError("thresholds must ascend")
    return np.searchsorted(cuts, scores.astype(np.float32), side="left")


def over_thresholds(bins: Counts) -> Counts:
    """Counts by number of thresholds below int64 [S + 1, ...] -> counts over each one [S, ...]."""
    return bins[::-1].cumsum(0)[::-1][1:]


def threshold_counts(scores: npt.NDArray[Any], truth: Mask, thresholds: Sequence[float]) -> Counts:
    """TP, FP, FN of `scores > threshold` against the truth at each of S ascending thresholds.

    scores float [H, W], truth bool [H, W] -> int64 [S, 3]. One pass over the pixels however many
    thresholds there are. Raises TTDError when they do not ascend.
    """
    above = thresholds_below(scores.ravel(), thresholds)
    bins = np.bincount(above * 2 + truth.ravel(), minlength=2 * (len(thresholds) + 1))
    false, true = over_thresholds(bins.reshape(-1, 2)).T  # [S] each: pixels over the threshold
    return np.stack([true, false, np.count_nonzero(truth) - true], axis=-1).astype(np.int64)


def best_threshold(counts: Counts, thresholds: Sequence[float]) -> float:
    """The threshold with the best mean IoU over maps, from int64 [maps, S, 3].

    Of several equal ones the lowest. TTDError where no map has any foreground.
    """
    iou = scores_from_counts(counts).iou  # [maps, S]
    there = ~np.isnan(iou).all(1)
    if not there.any():
        raise TTDError("no map with any foreground, so no threshold is best")
    return float(thresholds[int(np.nanmean(iou[there], axis=0).argmax())])


def label_baselines(
    truth: Counts, names: Sequence[str], background: bool, seed: int = 0
) -> dict[str, SegScores]:
    """Trivial baselines from the true pixels of each label int64 [L], named `names` [L].

    all foreground: the commonest class everywhere; all background: label 0 everywhere, or nothing
    at all where the set has no background; random map: every pixel's label drawn evenly (as one
    multinomial draw per true label, which is the same distribution).
    """
    count, first = len(truth), 1 if background else 0
    commonest = first + int(truth[first:].argmax())
    nothing = 0 if background else count  # a column of the confusion matrix
    rng = np.random.default_rng(seed)
    noise = np.zeros((count, count + 1), np.int64)
    for label, pixels in enumerate(truth):
        noise[label, :count] = rng.multinomial(pixels, np.full(count, 1 / count))
    return {
        f"all foreground ({names[commonest]})": scores_of(_constant(truth, commonest)),
        "all background": scores_of(_constant(truth, nothing)),
        "random map": scores_of(noise),
    }


def caption_baselines(truth: Counts, seed: int = 0) -> dict[str, Counts]:
    """TP, FP, FN int64 [B, 3] of trivial masks, from the pixels of each caption int64 [B, 2].

    truth: foreground and background pixels. random map: each pixel is foreground by a coin.
    """
    true, rest = truth[:, 0], truth[:, 1]
    none = np.zeros_like(true)
    rng = np.random.default_rng(seed)
    hits, alarms = rng.binomial(true, 0.5), rng.binomial(rest, 0.5)
    return {
        "all foreground": np.stack([true, rest, none], 1),
        "all background": np.stack([none, none, true], 1),
        "random map": np.stack([hits, alarms, true - hits], 1),
    }


def _check_sizes(truth: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> None:
    if truth.shape != prediction.shape:
        raise TTDError(
            f"truth of {truth.shape} and prediction of {prediction.shape} differ in size"
        )


def _constant(truth: Counts, column: int) -> Counts:
    """The confusion matrix [L, L + 1] of predicting one label (or none, column L) everywhere."""
    confusion = np.zeros((len(truth), len(truth) + 1), np.int64)
    confusion[:, column] = truth
    return confusion
