"""Foreground masks of captions against the union of their true tags' masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..data.labels.datasets import CaptionSet
from ..data.labels.mask_files import read_values, wrong_foreground
from ..data.records import Record
from ..errors import TTDError
from ..masks.results import load_scores
from ..metrics.segmentation import (
    Counts,
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
    find_predictions,
    in_threads,
    limit_of,
    match,
    read_prediction,
    refuse,
    saved_scores,
    score_chunks,
)

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100))
# A caption whose truth covers this share of the image says little: everything scores high there.
WHOLE = 0.99

Scored: TypeAlias = dict[str, Counts]  # TP, FP, FN, TN [4] by id


@dataclass(frozen=True)
class CaptionEvaluation:
    """TP, FP, FN, TN int64 [B, 4] of the captions `ids`, and what was left out."""

    ids: tuple[str, ...]
    counts: Counts
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
    def baselines(self) -> dict[str, Counts]:
        """TP, FP, FN int64 [B, 3] of the trivial baselines."""
        return caption_baselines(np.stack([self._true, self._pixels - self._true], axis=1))

    @property
    def whole(self) -> int:
        """Captions whose truth is (nearly) the whole image."""
        return int((self._true >= WHOLE * self._pixels).sum())

    @property
    def _true(self) -> Counts:
        """True pixels of each caption, int64 [B]."""
        true: Counts = self.counts[:, 0] + self.counts[:, 2]
        return true

    @property
    def _pixels(self) -> Counts:
        """Pixels of each image, int64 [B]."""
        pixels: Counts = self.counts.sum(1)
        return pixels


def evaluate_captions(
    captions: CaptionSet,
    folder: Path,
    *,
    allow_missing: bool = False,
    workers: int = 4,
    progress: Callable[[int], None] = lambda done: None,
    limit: int | None = None,
) -> CaptionEvaluation:
    """Score FOLDER/ID.png (0, and 1 or 255 = foreground) for every caption with true tags.

    Errors and options as in `label_maps.evaluate`.
    """
    check_kind(folder, captions=True)
    records, unscored = _records(captions, limit)
    found = find_predictions(folder)
    common, problems = match(list(records), found, unscored)

    def work(names: list[str]) -> tuple[Scored, Problems]:
        """Scores of a chunk of captions."""
        return _score(captions, [(records[name], found[name]) for name in names])

    counts: Scored = {}
    with closing(score_chunks(work, common, problems, workers, progress)) as parts:
        for part in parts:
            counts |= part
    refuse(problems, folder, allow_missing, scored=bool(counts))
    return CaptionEvaluation(tuple(counts), np.stack(list(counts.values())), problems)


def sweep(
    captions: CaptionSet,
    folder: Path,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    allow_missing: bool = False,
    workers: int = 4,
) -> tuple[Counts, Problems]:
    """TP, FP, FN int64 [B, S, 3] of FOLDER/scores/ID.npz cut at every threshold.

    A caption's map is the maximum of its saved ones. Also returns what was left out. Raises
    TTDError when maps are missing (unless `allow_missing`) or of another size.
    """
    records, unscored = _records(captions, limit_of(folder))
    found, problems = saved_scores(folder, list(records), allow_missing, unscored)

    def work(names: list[str]) -> list[Counts]:
        """Counts of a chunk of captions at every threshold."""
        return [_cut(captions, records[name], found[name], thresholds) for name in names]

    counts: list[Counts] = []
    with closing(in_threads(work, list(found), workers)) as parts:
        for _, part in parts:
            counts += part
    return np.stack(counts), problems


def best_elsewhere(
    tuning: Counts, counts: Counts, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[float, SegScores]:
    """The threshold that is best on a separate split, and the scores of `counts` there.

    tuning, counts: int64 [captions, S, 3] of the separate split and of the one that is scored.
    """
    best = best_threshold(tuning, thresholds)
    return best, scores_from_counts(counts[:, list(thresholds).index(best)])


def _records(captions: CaptionSet, limit: int | None = None) -> tuple[dict[str, Record], list[str]]:
    """Captions with true tags by id, and the ids of the others: without tags, or after `limit`.

    TTDError when none has any tags.
    """
    tagged = {record.id: record for record in captions.records.usable(limit) if record.tags}
    others = [record.id for record in captions.records.usable() if record.id not in tagged]
    if not tagged:
        raise TTDError(f"{captions.root}: no captions with true tags, so there is no truth")
    return tagged, others


def _score(captions: CaptionSet, pairs: list[tuple[Record, Path]]) -> tuple[Scored, Problems]:
    """Counts of some captions, and what is wrong with their predictions."""
    scored, problems = Scored(), Problems()
    for record, path in pairs:
        truth = captions.truth_mask(record)
        values = read_prediction(
            problems, record.id, path, truth, read=read_values, wrong=wrong_foreground
        )
        if values is not None:
            scored[record.id] = foreground_counts(truth, values != 0)
    return scored, problems


def _cut(captions: CaptionSet, record: Record, path: Path, thresholds: Sequence[float]) -> Counts:
    """TP, FP, FN [S, 3] of one caption's saved maps. TTDError where they have another size."""
    truth = captions.truth_mask(record)
    scores = load_scores(path)[0].max(axis=0, initial=0)
    if scores.shape != truth.shape:
        raise TTDError(f"{path}: a map of {scores.shape}, but the truth has {truth.shape}")
    return threshold_counts(scores, truth, thresholds)
