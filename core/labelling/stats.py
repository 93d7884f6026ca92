"""What a labelled set holds, counted in one pass: words, tags, masks, boxes, what was left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .rows import LabelledSet, LabelledShard

BINS = 20  # of shares and normalized scores in [0, 1]
MOST_TAGS = 16  # captions of more tags are counted with these
KEPT_WORDS = 200_000  # distinct words that are counted: a set of billions has more than memory
NUMBERS = re.compile(r"\d+")

Counts = npt.NDArray[np.int64]


def _bins() -> Counts:
    return np.zeros(BINS, np.int64)


@dataclass
class Stats:
    """Counts over a set.

    tags: selected words, each once in a caption; tags_per_caption [0 .. MOST_TAGS]; norms: of
    selected and of rejected words; caption_shares and tag_shares: of the image's pixels,
    box_shares: of its area, in `BINS` equal bins; the sums of these shares. others: shards that
    other settings made, which are not counted.
    """

    shards: int = 0
    failed: int = 0
    others: int = 0
    pairs: int = 0
    words: int = 0
    selected: int = 0
    tags: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    tags_per_caption: Counts = field(default_factory=lambda: np.zeros(MOST_TAGS + 1, np.int64))
    chosen: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    selected_norms: Counts = field(default_factory=_bins)
    rejected_norms: Counts = field(default_factory=_bins)
    caption_shares: Counts = field(default_factory=_bins)
    tag_shares: Counts = field(default_factory=_bins)
    box_shares: Counts = field(default_factory=_bins)
    caption_sum: float = 0.0
    tag_sum: float = 0.0
    box_sum: float = 0.0
    empty_captions: int = 0
    empty_tags: int = 0
    boxes: int = 0

    @property
    def rejection(self) -> float:
        """The share of words that were not selected, in [0, 1]."""
        return 1 - self.selected / self.words if self.words else 0.0

    @property
    def mean_tags(self) -> float:
        """Tags per caption."""
        return self.tags / self.pairs if self.pairs else 0.0


def stats_of(labels: LabelledSet, shards: Iterable[LabelledShard] | None = None) -> Stats:
    """Count the shards of a set, or some of them. TTDError: a damaged file."""
    stats = Stats(failed=len(labels.failed))
    columns = ["height", "width", "words", *sorted(labels.columns - {"caption_mask"})]
    for shard in labels.shards if shards is None else shards:
        if not labels.made(shard):
            stats.others += 1
            continue
        stats.shards += 1
        for item in shard.about["skipped"]:
            stats.skipped[NUMBERS.sub("N", kind_of(str(item.get("reason"))))] += 1
        for row in shard.rows(columns):
            _add(stats, row)
    return stats


def kind_of(reason: str) -> str:
    """A reason for skipping without the names of files in it."""
    text = reason.partition(" in ")[0] if reason.startswith("no ") else reason.rpartition(": ")[2]
    return text.partition(" (")[0].partition(";")[0][:60]


def _add(stats: Stats, row: dict[str, Any]) -> None:
    """Count one pair."""
    words = row["words"]
    chosen = [one["word"] for one in words if one["selected"]]
    stats.pairs += 1
    stats.words += len(words)
    stats.selected += len(chosen)
    tags = len(set(chosen))  # as the column of tags has them
    stats.tags += tags
    stats.tags_per_caption[min(tags, MOST_TAGS)] += 1
    _count(stats.chosen, chosen)
    _count(stats.rejected, [one["word"] for one in words if not one["selected"]])
    for one in words:
        norms = stats.selected_norms if one["selected"] else stats.rejected_norms
        norms[bin_of(one["norm"])] += 1
    area = row["height"] * row["width"]
    if row.get("masks") is not None:
        _add_masks(stats, row, area)
    for one in row.get("boxes") or ():
        left, top, right, bottom = one["box"]
        share = (right - left) * (bottom - top) / area
        stats.boxes += 1
        stats.box_sum += share
        stats.box_shares[bin_of(share)] += 1


def _add_masks(stats: Stats, row: dict[str, Any], area: int) -> None:
    """Count the masks of one pair, whose image has `area` pixels."""
    stats.caption_sum += row["caption_area"] / area
    stats.caption_shares[bin_of(row["caption_area"] / area)] += 1
    stats.empty_captions += row["caption_area"] == 0
    for one in row["masks"]:
        stats.tag_sum += one["area"] / area
        stats.tag_shares[bin_of(one["area"] / area)] += 1
        stats.empty_tags += one["area"] == 0


def bin_of(share: float) -> int:
    """Which of `BINS` a value in [0, 1] belongs to; 1 to the last."""
    return min(max(int(share * BINS), 0), BINS - 1)


def _count(counter: Counter[str], words: Sequence[str]) -> None:
    """Count words; past `KEPT_WORDS` distinct ones, no new ones."""
    for word in words:
        lower = word.lower()
        if lower in counter or len(counter) < KEPT_WORDS:
            counter[lower] += 1
