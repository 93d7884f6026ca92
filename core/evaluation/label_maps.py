"""A folder of label maps against the truth of a segmentation set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..data.labels.dataset_checks import read_predicted, read_truth, wrong_counts, wrong_labels
from ..data.labels.datasets import Dataset, Item
from ..errors import TTDError
from ..metrics.segmentation import (
    Counts,
    SegScores,
    confusion_matrix,
    joint_histogram,
    label_baselines,
    scores_of,
)
from .predictions import (
    Problems,
    check_classes,
    check_kind,
    find_predictions,
    match,
    read_prediction,
    refuse,
    score_chunks,
)

# Joint histogram [256, 256] of some images, and the mean IoU of each by id.
Part: TypeAlias = tuple[Counts, dict[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set: confusion int64 [L, L + 1], IoU of each image by id, what was left out."""

    dataset: Dataset
    confusion: Counts
    pictures: dict[str, float]
    problems: Problems

    @property
    def scores(self) -> SegScores:
        """IoU, FPR, FNR per label [L]."""
        return scores_of(self.confusion)

    @property
    def baselines(self) -> dict[str, SegScores]:
        """The trivial baselines on the same pixels."""
        pixels = self.confusion.sum(1)
        return label_baselines(pixels, self.dataset.label_names, self.dataset.background)


def evaluate(
    dataset: Dataset,
    folder: Path,
    *,
    allow_missing: bool = False,
    workers: int = 4,
    progress: Callable[[int], None] = lambda done: None,
    limit: int | None = None,
) -> Evaluation:
    """Score FOLDER/ID.png against the masks of the set, read by `workers` threads.

    limit: score the first so many images of the set (see `predictions.limit_of`); None: all.

    Predictions that are missing, extra, unreadable, of another size or with unknown labels are left
    out and listed in `problems`. Raises TTDError for them unless `allow_missing`, for masks of the
    set that are wrong, for masks of captions or made with other classes, for masks in which 255
    stands for a class, and when nothing can be scored. progress: called with the number of images
    scored since the last call.
    """
    items = {item.id: item for item in dataset.items()}
    first = list(items.values())[:limit]
    with_mask = [item.id for item in first if item.mask is not None]
    if not with_mask:
        raise TTDError(f"{dataset.describe()}: without masks nothing can be scored")
    check_kind(folder, captions=False)
    check_classes(folder, dataset.digest, dataset.name)
    found = find_predictions(folder)
    common, problems = match(with_mask, found, items)

    def work(names: list[str]) -> tuple[Part, Problems]:
        return _score([(items[name], found[name]) for name in names], dataset)

    total, scored = np.zeros((256, 256), np.int64), dict[str, float]()
    for joint, part in score_chunks(work, common, problems, workers, progress):
        total += joint
        scored |= part
    refuse(problems, folder, allow_missing, scored=bool(scored))
    if reason := wrong_counts(dataset, total.sum(1), total.sum(0)):
        raise TTDError(f"{dataset.name}: {reason}")
    return Evaluation(dataset, confusion_matrix(total, dataset.label_values), scored, problems)


def _score(pairs: list[tuple[Item, Path]], dataset: Dataset) -> tuple[Part, Problems]:
    """Joint histogram and IoU of some images, and what is wrong with their predictions."""
    total, scored, problems = np.zeros((256, 256), np.int64), dict[str, float](), Problems()
    wrong, read = partial(wrong_labels, dataset), partial(read_predicted, dataset)
    for item, path in pairs:
        truth = read_truth(dataset, item)
        prediction = read_prediction(problems, item.id, path, truth, read=read, wrong=wrong)
        if prediction is None:
            continue
        joint = joint_histogram(truth, prediction)
        total += joint
        scored[item.id] = scores_of(confusion_matrix(joint, dataset.label_values)).means[0]
    return (total, scored), problems
