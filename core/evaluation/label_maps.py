"""A folder of label maps against the truth of a segmentation set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
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
    counts_of,
    joint_histogram,
    label_baselines,
    scores_from_counts,
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

# Joint histogram [256, 256] of some images, and TP, FP, FN [L, 3] of each by id.
Part: TypeAlias = tuple[Counts, dict[str, Counts]]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set: confusion int64 [L, L + 1], what was left out, and by id of each image its
    mean IoU and its TP, FP, FN int64 [L, 3].
    """

    dataset: Dataset
    confusion: Counts
    pictures: dict[str, float]
    problems: Problems
    counts: dict[str, Counts] = field(default_factory=dict, repr=False)

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
        """Scores of a chunk of images."""
        return _score([(items[name], found[name]) for name in names], dataset)

    total, counts = np.zeros((256, 256), np.int64), dict[str, Counts]()
    with closing(score_chunks(work, common, problems, workers, progress)) as parts:
        for joint, part in parts:
            total += joint
            counts |= part
    scored = {name: scores_from_counts(own).means[0] for name, own in counts.items()}
    refuse(problems, folder, allow_missing, scored=bool(scored))
    if reason := wrong_counts(dataset, total.sum(1), total.sum(0)):
        raise TTDError(f"{dataset.name}: {reason}")
    confusion = confusion_matrix(total, dataset.label_values)
    return Evaluation(dataset, confusion, scored, problems, counts)


def _score(pairs: list[tuple[Item, Path]], dataset: Dataset) -> tuple[Part, Problems]:
    """Joint histogram and counts of some images, and what is wrong with their predictions."""
    total, scored, problems = np.zeros((256, 256), np.int64), dict[str, Counts](), Problems()
    wrong, read = partial(wrong_labels, dataset), partial(read_predicted, dataset)
    for item, path in pairs:
        truth = read_truth(dataset, item)
        prediction = read_prediction(problems, item.id, path, truth, read=read, wrong=wrong)
        if prediction is None:
            continue
        joint = joint_histogram(truth, prediction)
        total += joint
        scored[item.id] = counts_of(confusion_matrix(joint, dataset.label_values))
    return (total, scored), problems
