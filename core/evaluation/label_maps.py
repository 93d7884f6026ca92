"""A folder of label maps against the truth of a segmentation set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.dataset_checks import read_truth, wrong_labels
from ..data.datasets import Dataset, Item
from ..data.mask_files import read_index
from ..errors import TTDError
from ..metrics.segmentation import (
    SegScores,
    confusion_matrix,
    joint_histogram,
    label_baselines,
    scores_of,
)
from .predictions import Problems, check_kind, in_threads, list_predictions, match, refuse


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set: confusion int64 [L, L + 1], IoU of each image by id, and what was left out."""

    dataset: Dataset
    confusion: np.ndarray
    pictures: dict[str, float]
    problems: Problems

    @property
    def scores(self) -> SegScores:
        """IoU, FPR, FNR per label."""
        return scores_of(self.confusion)

    @property
    def baselines(self) -> dict[str, SegScores]:
        """What needs no model, on the same pixels."""
        return label_baselines(
            self.confusion.sum(1),
            self.dataset.label_values,
            self.dataset.label_names,
            self.dataset.background,
        )


def evaluate(
    dataset: Dataset,
    folder: Path,
    *,
    allow_missing: bool = False,
    workers: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Score FOLDER/ID.png against the masks of the set, read by `workers` threads.

    Predictions that are missing, extra, unreadable, of another size or with unknown labels are left
    out and listed in `problems`. Raises TTDError for them unless `allow_missing`, for masks of the
    set that are wrong, for masks of captions, and when nothing can be scored.
    """
    items = {item.id: item for item in dataset.items()}
    with_mask = [name for name, item in items.items() if item.mask is not None]
    if not with_mask:
        raise TTDError(f"{dataset.describe()}: without masks nothing can be scored")
    check_kind(folder, captions=False)
    found = list_predictions(folder)
    common, problems = match(with_mask, found, items)

    def work(names: list[str]) -> Part:
        return _score([(items[name], found[name]) for name in names], dataset)

    total, pictures = np.zeros((256, 256), np.int64), {}
    for count, (joint, scored, wrong) in in_threads(work, common, workers):
        total += joint
        pictures |= scored
        problems.merge(wrong)
        progress(count)
    refuse(problems, folder, allow_missing)
    if not pictures:
        raise TTDError(f"{folder}: no prediction can be scored: {problems.line()}")
    return Evaluation(dataset, confusion_matrix(total, dataset.label_values), pictures, problems)


Part = tuple[np.ndarray, dict[str, float], Problems]


def _score(pairs: list[tuple[Item, Path]], dataset: Dataset) -> Part:
    """Joint histogram [256, 256] of some images, IoU of each, problems."""
    total, scored, problems = np.zeros((256, 256), np.int64), {}, Problems()
    for item, path in pairs:
        truth = read_truth(dataset, item)
        try:
            prediction = read_index(path)
        except TTDError as error:
            problems.add("unreadable", f"{item.id}: {str(error).removeprefix(f'{path}: ')}")
            continue
        if wrong := wrong_labels(dataset, prediction):
            problems.add("out of range", f"{item.id}: {wrong}")
            continue
        if prediction.shape != truth.shape:
            problems.add("wrong-sized", f"{item.id}: {_size(prediction)} for {_size(truth)}")
            continue
        joint = joint_histogram(truth, prediction)
        total += joint
        scored[item.id] = scores_of(confusion_matrix(joint, dataset.label_values)).means[0]
    return total, scored, problems


def _size(labels: np.ndarray) -> str:
    return f"{labels.shape[1]}x{labels.shape[0]}"
