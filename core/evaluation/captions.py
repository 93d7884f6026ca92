"""Foreground masks of captions against the union of their true tags' masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.datasets import CaptionSet
from ..data.mask_files import read_values, wrong_foreground
from ..data.records import Record
from ..errors import TTDError
from ..masks.results import load_scores
from ..metrics.segmentation import (
    SegScores,
    best_threshold,
    caption_baselines,
    foreground_counts,
    scores_from_counts,
    threshold_counts,
)
from .predictions import (
    Problems,
    check_kind,
    in_threads,
    list_predictions,
    match,
    refuse,
    saved_scores,
)

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100))
# a caption whose truth covers this share of the image says little: everything scores high there
WHOLE = 0.99


@dataclass(frozen=True)
class CaptionEvaluation:
    """TP, FP, FN, TN int64 [B, 4] of the captions `ids`, and what was left out."""

    ids: tuple[str, ...]
    counts: np.ndarray
    problems: Problems

    @property
    def scores(self) -> SegScores:
        """Of each caption, [B]; their means are the published score."""
        return scores_from_counts(self.counts[:, :3])

    @property
    def pooled(self) -> SegScores:
        """Of all pixels of all captions together, []."""
        return scores_from_counts(self.counts[:, :3].sum(0))

    @property
    def baselines(self) -> dict[str, np.ndarray]:
        """TP, FP, FN int64 [B, 3] of masks that need no model."""
        true = self.counts[:, 0] + self.counts[:, 2]
        return caption_baselines(np.stack([true, self.counts.sum(1) - true], axis=1))

    @property
    def whole(self) -> int:
        """Captions whose truth is (nearly) the whole image."""
        true = self.counts[:, 0] + self.counts[:, 2]
        return int((true >= WHOLE * self.counts.sum(1)).sum())


def evaluate_captions(
    captions: CaptionSet,
    folder: Path,
    *,
    allow_missing: bool = False,
    workers: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> CaptionEvaluation:
    """Score FOLDER/ID.png (0, and 1 or 255 = foreground) for every caption with true tags.

    Errors as `seg_evaluation.evaluate` has them.
    """
    check_kind(folder, captions=True)
    records, untagged = _records(captions)
    found = list_predictions(folder)
    common, problems = match(list(records), found, untagged)

    def work(names: list[str]) -> tuple[dict[str, np.ndarray], Problems]:
        return _score(captions, [(records[name], found[name]) for name in names])

    counts: dict[str, np.ndarray] = {}
    for done, (scored, wrong) in in_threads(work, common, workers):
        counts |= scored
        problems.merge(wrong)
        progress(done)
    refuse(problems, folder, allow_missing)
    if not counts:
        raise TTDError(f"{folder}: no prediction can be scored: {problems.line()}")
    return CaptionEvaluation(tuple(counts), np.stack(list(counts.values())), problems)


def sweep(
    captions: CaptionSet,
    folder: Path,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    allow_missing: bool = False,
    workers: int = 4,
) -> tuple[np.ndarray, Problems]:
    """TP, FP, FN int64 [B, S, 3] of FOLDER/scores/ID.npz cut at every threshold, and what was left out.

    A caption's map is the maximum of its saved ones. Raises TTDError when maps are missing (unless
    `allow_missing`) or of another size.
    """
    records, untagged = _records(captions)
    found, problems = saved_scores(folder, list(records), allow_missing, untagged)

    def work(names: list[str]) -> list[np.ndarray]:
        maps = [load_scores(found[name])[0].max(axis=0, initial=0) for name in names]
        return [
            _cut(found[name], scores, captions.truth_mask(records[name]), thresholds)
            for name, scores in zip(names, maps, strict=True)
        ]

    return np.stack(
        [counts for _, part in in_threads(work, list(found), workers) for counts in part]
    ), problems


def best_elsewhere(
    tuning: np.ndarray, counts: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[float, SegScores]:
    """The threshold that is best on a separate split, int64 [captions, S, 3], and the scores of `counts` there."""
    best = best_threshold(tuning, thresholds)
    return best, scores_from_counts(counts[:, list(thresholds).index(best)])


def _records(captions: CaptionSet) -> tuple[dict[str, Record], list[str]]:
    """Captions with true tags by id, and the ids of those without. TTDError when none has any."""
    records = [record for record in captions.records.iterate() if isinstance(record, Record)]
    tagged = {record.id: record for record in records if record.tags}
    if not tagged:
        raise TTDError(f"{captions.root}: no captions with true tags, so there is no truth")
    return tagged, [record.id for record in records if not record.tags]


def _score(
    captions: CaptionSet, pairs: list[tuple[Record, Path]]
) -> tuple[dict[str, np.ndarray], Problems]:
    scored, problems = {}, Problems()
    for record, path in pairs:
        truth = captions.truth_mask(record)
        try:
            values = read_values(path)
        except TTDError as error:
            problems.add("unreadable", f"{record.id}: {str(error).removeprefix(f'{path}: ')}")
            continue
        if wrong := wrong_foreground(values):
            problems.add("out of range", f"{record.id}: {wrong}")
            continue
        if values.shape != truth.shape:
            size, wanted = ("x".join(map(str, mask.shape[::-1])) for mask in (values, truth))
            problems.add("wrong-sized", f"{record.id}: {size} for {wanted}")
            continue
        scored[record.id] = foreground_counts(truth, values != 0)
    return scored, problems


def _cut(
    path: Path, scores: np.ndarray, truth: np.ndarray, thresholds: Sequence[float]
) -> np.ndarray:
    if scores.shape != truth.shape:
        raise TTDError(f"{path}: a map of {scores.shape}, but the truth has {truth.shape}")
    return threshold_counts(scores, truth, thresholds)
