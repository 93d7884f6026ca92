"""What a model makes of held-out captions: counts at every threshold, and scores at some of them.

Precision, recall and F1 are those of the selected words; Caption IoU is that of the caption's map
against the union of its true tags' masks; word-map IoU, this project's guard against a collapse of
the words' maps, that of each true tag's map against its own mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.heldout import Item
from ..errors import TTDError
from ..metrics.segmentation import Counts, best_threshold, scores_from_counts
from ..metrics.tags import TagScores, average_precision, tag_scores
from ..metrics.tags import best_threshold as best_tag_threshold
from ..tags.selection import minmax, select
from .captions import THRESHOLDS

# How a map of cosines becomes one in [0, 1]: the model's soft mask, or its own range.
MAPS = ("soft", "minmax")

Flags: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cuts:
    """Where scores and maps are cut.

    tag: in the normalized scores (None: Otsu's threshold); the others are multiples of 0.01.
    caption, word: of soft masks; caption_minmax, word_minmax: of min-max maps, as the trials of
    docs/ablation.md had them.
    """

    tag: float | None = None
    caption: float = 0.4
    word: float = 0.4
    caption_minmax: float = 0.4
    word_minmax: float = 0.5


@dataclass(frozen=True)
class HeldOut:
    """Scores at some `cuts`, fractions in [0, 1]; NaN where nothing could be scored.

    tags: stop words allowed; content: stop words rejected; average_precision: all words pooled by
    normalized score. caption_iou: mean over `captions`, word_map_iou: mean over (caption, tag)
    `pairs`, both of soft masks; caption_iou_pooled: of all pixels together; *_minmax: of min-max
    maps. pictures, words, captions, pairs: how many there were.
    """

    cuts: Cuts
    pictures: int
    words: int
    captions: int
    pairs: int
    tags: TagScores
    content: TagScores
    average_precision: float
    caption_iou: float
    caption_iou_pooled: float
    word_map_iou: float
    caption_iou_minmax: float
    word_map_iou_minmax: float

    @property
    def pixel_f1(self) -> float:
        """F1 of the selected words, stop words allowed."""
        return self.tags.f1

    def numbers(self) -> dict[str, float]:
        """The scores by name, flat, for logs and tables."""
        return {
            "pixel_f1": self.tags.f1,
            "precision": self.tags.precision,
            "recall": self.tags.recall,
            "pixel_f1_stopwords": self.content.f1,
            "precision_stopwords": self.content.precision,
            "recall_stopwords": self.content.recall,
            "average_precision": self.average_precision,
            "caption_iou": self.caption_iou,
            "caption_iou_pooled": self.caption_iou_pooled,
            "word_map_iou": self.word_map_iou,
            "caption_iou_minmax": self.caption_iou_minmax,
            "word_map_iou_minmax": self.word_map_iou_minmax,
        }


@dataclass(frozen=True)
class Baselines:
    """Trivial baselines, fractions: F1 of all words and all content words, IoU by trivial map."""

    all_words: TagScores
    all_content_words: TagScores
    caption_iou: dict[str, float]
    word_map_iou: dict[str, float]


@dataclass(frozen=True)
class MapCounts:
    """TP, FP, FN of N maps at the S `THRESHOLDS`: int64 [N, S, 3] by kind of map (`MAPS`).

    owner: row of the item that each map belongs to, int64 [N].
    """

    counts: Mapping[str, Counts]
    owner: Rows

    def of(self, keep: Flags) -> MapCounts:
        """Those of the items that are kept, bool [B], numbered without the others."""
        kept, rows = keep[self.owner], np.cumsum(keep) - 1
        counts = {kind: values[kept] for kind, values in self.counts.items()}
        return MapCounts(counts, rows[self.owner[kept]])

    def at(self, kind: str, threshold: float) -> Counts:
        """Counts int64 [N, 3] at one of `THRESHOLDS`. TTDError for another one."""
        cut = round(threshold, 2)
        if cut not in THRESHOLDS or abs(threshold - cut) > 1e-9:
            raise TTDError(
                f"threshold {threshold}: choose a multiple of 0.01 between 0.01 and 0.99"
            )
        return self.counts[kind][:, THRESHOLDS.index(cut)]

    def best(self, kind: str) -> float:
        """The threshold with the best mean IoU. TTDError where no map has any foreground."""
        return best_threshold(self.counts[kind], THRESHOLDS)


@dataclass(frozen=True)
class Measured:
    """What a model makes of B items, before anything is cut.

    scores: raw scores of each item's words by scorer, lists of [K]; captions: the maps of the
    captions that have true tags; words: those of their (caption, tag) pairs.
    """

    items: tuple[Item, ...]
    scores: dict[str, list[Tensor]]
    captions: MapCounts
    words: MapCounts

    def part(self, ids: Sequence[str]) -> Measured:
        """The same for some of the items."""
        wanted = set(ids)
        keep = np.array([item.id in wanted for item in self.items], bool)
        scores = {}
        for name, values in self.scores.items():
            scores[name] = list(compress(values, keep))
        return Measured(
            items=tuple(compress(self.items, keep)),
            scores=scores,
            captions=self.captions.of(keep),
            words=self.words.of(keep),
        )

    def tags(
        self, scorer: str = "pixel", threshold: float | None = None, stopwords: bool = False
    ) -> TagScores:
        """P, R, F1, accuracy over all words.

        threshold: in the normalized scores, None is Otsu's; stopwords: function words are rejected.
        """
        selected = []
        for item, scores in zip(self.items, self.scores[scorer], strict=True):
            stop = torch.from_numpy(item.stop) if stopwords else None
            selected.append(select(scores, stop, threshold=threshold)[0].numpy())
        return tag_scores(np.concatenate(selected), true_words(self.items))

    def at(self, cuts: Cuts | None = None) -> HeldOut:
        """The scores at some cuts (the default ones when None). TTDError: see `MapCounts.at`."""
        cuts = cuts or Cuts()
        captions = self.captions.at("soft", cuts.caption)
        return HeldOut(
            cuts=cuts,
            pictures=len(self.items),
            words=sum(len(item.words) for item in self.items),
            captions=len(self.captions.owner),
            pairs=len(self.words.owner),
            tags=self.tags(threshold=cuts.tag),
            content=self.tags(threshold=cuts.tag, stopwords=True),
            average_precision=average_precision(self._norms(), true_words(self.items)),
            caption_iou=mean_iou(captions),
            caption_iou_pooled=float(scores_from_counts(captions.sum(0)).iou),
            word_map_iou=mean_iou(self.words.at("soft", cuts.word)),
            caption_iou_minmax=mean_iou(self.captions.at("minmax", cuts.caption_minmax)),
            word_map_iou_minmax=mean_iou(self.words.at("minmax", cuts.word_minmax)),
        )

    def best_cuts(self) -> Cuts:
        """The single thresholds that are best here, to be used on another split.

        TTDError without any true tag.
        """
        return Cuts(
            tag=best_tag_threshold(self._norms(), true_words(self.items))[0],
            caption=self.captions.best("soft"),
            word=self.words.best("soft"),
            caption_minmax=self.captions.best("minmax"),
            word_minmax=self.words.best("minmax"),
        )

    def item_iou(self, cuts: Cuts | None = None) -> npt.NDArray[np.float64]:
        """How good the maps of each item are, [B]: NaN for items without true tags.

        It is the mean of the item's Caption IoU and its mean word-map IoU.
        """
        cuts, result = cuts or Cuts(), np.full(len(self.items), np.nan)
        captions = scores_from_counts(self.captions.at("soft", cuts.caption)).iou
        words = scores_from_counts(self.words.at("soft", cuts.word)).iou
        for value, item in zip(captions, self.captions.owner, strict=True):
            result[item] = (value + words[self.words.owner == item].mean()) / 2
        return result

    def _norms(self) -> npt.NDArray[np.float32]:
        return np.concatenate([minmax(scores).numpy() for scores in self.scores["pixel"]])


def true_words(items: Sequence[Item]) -> Flags:
    """Which words of the items are true tags, all pooled: bool [W]."""
    return np.concatenate([item.truth for item in items])


def mean_iou(counts: Counts) -> float:
    """Mean IoU of counts int64 [N, 3]; NaN where there is nothing to score."""
    iou = scores_from_counts(counts).iou
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
