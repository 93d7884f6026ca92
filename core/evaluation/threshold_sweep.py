"""Scores of saved soft maps at many background thresholds at once.

The winning class of a pixel does not depend on the threshold, only whether it wins against the
background: one histogram of (winner's value, truth, winner) gives the confusion matrices of all
thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.labels.dataset_checks import read_truth
from ..data.labels.datasets import Dataset, Item
from ..errors import TTDError
from ..masks.results import load_scores
from ..metrics.segmentation import (
    Counts,
    SegScores,
    over_thresholds,
    scores_from_counts,
    thresholds_below,
)
from .predictions import Problems, check_classes, in_threads, limit_of, saved_scores


def sweep_labels(
    dataset: Dataset,
    folder: Path,
    thresholds: Sequence[float],
    *,
    allow_missing: bool = False,
    workers: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[SegScores, Problems]:
    """Scores per threshold and label, fields [S, L], from FOLDER/scores/ID.npz.

    Also returns what was left out. Pixels at or below a threshold are background where the set has
    one, else nothing (a false negative). Raises TTDError: no scores there, some missing (unless
    `allow_missing`), another size than the truth, thresholds that do not ascend,
    scores made with other classes.
    """
    check_classes(folder, dataset.digest, dataset.name)
    items = {item.id: item for item in dataset.items()}
    first = list(items.values())[: limit_of(folder)]
    with_mask = [item.id for item in first if item.mask is not None]
    found, problems = saved_scores(folder, with_mask, allow_missing, items)
    labels = len(dataset.label_values)

    def work(names: list[str]) -> Counts:
        """Counts of a chunk of images at every threshold, summed."""
        total = np.zeros((len(thresholds) + 1, labels, labels + 1), np.int64)
        for name in names:
            values, winners = _winners(found[name], dataset)
            truth = _truth(dataset, items[name], found[name])
            total += label_counts(values, winners, truth, labels, thresholds)
        return total

    total = np.zeros((len(thresholds) + 1, labels, labels + 1), np.int64)
    with closing(in_threads(work, list(found), workers)) as parts:
        for count, part in parts:
            total += part
            progress(count)
    return scores_from_counts(counts_at_thresholds(total, dataset.background)), problems


def label_counts(
    values: npt.NDArray[Any],
    winners: npt.NDArray[np.int64],
    truth: npt.NDArray[np.int64],
    labels: int,
    thresholds: Sequence[float],
) -> Counts:
    """Pixels by number of thresholds below their value, true label and winner.

    values: float [H, W] of the winners; winners, truth: int [H, W], label numbers below L =
    `labels`, and L for no winner, or not scored. Returns int64 [S + 1, L, L + 1]. TTDError when the
    thresholds do not ascend.
    """
    scored = truth < labels
    above = thresholds_below(values[scored], thresholds)
    index = (above * labels + truth[scored]) * (labels + 1) + winners[scored]
    shape = (len(thresholds) + 1, labels, labels + 1)
    counts = np.bincount(index, minlength=int(np.prod(shape)))
    return counts.reshape(shape).astype(np.int64, copy=False)


def counts_at_thresholds(counts: Counts, background: bool) -> Counts:
    """`label_counts` int64 [S + 1, L, L + 1] -> TP, FP, FN int64 [S, L, 3].

    background: label 0 is what stays at or below the threshold.
    """
    kept = over_thresholds(counts)  # [S, L, L + 1]
    below = counts.sum(0)[None] - kept
    predicted = kept[..., :-1].copy()
    if background:
        predicted[..., 0] += below.sum(-1) + kept[..., -1]
    hits = np.diagonal(predicted, axis1=1, axis2=2)  # [S, L]
    true = counts.sum((0, 2))  # [L]
    return np.stack([hits, predicted.sum(1) - hits, true - hits], axis=-1)


def _winners(path: Path, dataset: Dataset) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Value and label number of the best class at every pixel, [H, W] each."""
    maps, classes = load_scores(path)
    nobody = len(dataset.label_values)
    if not len(classes):
        return np.zeros(maps.shape[1:], np.float32), np.full(maps.shape[1:], nobody)
    if classes.max() >= len(dataset.classes):
        raise TTDError(
            f"{path}: scores of class {classes.max()}, "
            f"but {dataset.name} has {len(dataset.classes)}"
        )
    return maps.max(0), classes.astype(np.int64)[maps.argmax(0)] + int(dataset.background)


def _truth(dataset: Dataset, item: Item, path: Path) -> npt.NDArray[np.int64]:
    """Label numbers of the truth, int64 [H, W]; as many as there are labels where not scored."""
    values = dataset.label_values
    numbers = np.full(256, len(values))
    numbers[list(values)] = range(len(values))
    truth = numbers[read_truth(dataset, item)]
    with np.load(path) as stored:
        size = tuple(stored["size"].tolist())
    if size != truth.shape:
        raise TTDError(f"{path}: maps of {size}, but the truth has {truth.shape}")
    return truth
