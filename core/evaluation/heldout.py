"""How good a model is on held-out captions: tags, Caption IoU and word-map IoU together, with the baselines.

    items = load_heldout("../world")
    scores = evaluate_heldout(load_backbone("tiny"), items)
    scores.pixel_f1, scores.caption_iou, scores.word_map_iou       # fractions in [0, 1]

Images of any sizes: each goes through the model once, at one scale, the short side `image_size`
(the model's own by default), and images of equal size go together. Definitions: spec ttd.md 3;
word-map IoU is this project's guard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.heldout import Item, load_heldout
from ..errors import TTDError
from ..metrics.segmentation import (
    best_threshold,
    caption_baselines,
    scores_from_counts,
    threshold_counts,
)
from ..metrics.tags import TagScores, average_precision, tag_scores
from ..metrics.tags import best_threshold as best_tag_threshold
from ..tags.selection import minmax, select
from .captions import THRESHOLDS
from .heldout_maps import ItemMaps, heldout_maps

__all__ = [
    "Baselines",
    "Cuts",
    "HeldOut",
    "Item",
    "Measured",
    "baselines",
    "best_cuts",
    "evaluate_heldout",
    "load_heldout",
    "measure",
]

MAPS = (
    "soft",
    "minmax",
)  # how a map of cosines becomes one in [0, 1]: the model's soft mask, or its own range


@dataclass(frozen=True)
class Cuts:
    """Where scores and maps are cut: `tag` in the normalized scores (None: Otsu), the others multiples of 0.01.

    caption, word: through the soft mask; caption_minmax, word_minmax: of min-max maps, as the
    trials had it.
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
    normalized score.
    caption_iou: mean over `captions`, word_map_iou: mean over (caption, tag) `pairs`, both through
    the soft mask;
    caption_iou_pooled: of all pixels together; *_minmax: of min-max maps.
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
    """What needs no model, fractions: F1 of all words and all content words, IoU by trivial map."""

    all_words: TagScores
    all_content_words: TagScores
    caption_iou: dict[str, float]
    word_map_iou: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """What a model makes of items, before anything is cut.

    scores: raw scores of each item's words by scorer, lists of [K]; captions, words: TP, FP, FN
    int64 [C, S, 3] and [P, S, 3] by kind of map (`MAPS`) at the S `THRESHOLDS`, for the captions
    that have true tags and for their (caption, tag) pairs; caption_item [C], word_item [P]: whose
    they are.
    """

    items: tuple[Item, ...]
    scores: dict[str, list[Tensor]]
    captions: dict[str, np.ndarray]
    words: dict[str, np.ndarray]
    caption_item: np.ndarray
    word_item: np.ndarray

    def part(self, ids: Sequence[str]) -> Measured:
        """The same for some of the items."""
        keep = np.array([item.id in set(ids) for item in self.items], bool)
        moved = np.cumsum(keep) - 1
        captions, words = keep[self.caption_item], keep[self.word_item]
        return Measured(
            tuple(item for item, kept in zip(self.items, keep, strict=True) if kept),
            {
                name: [row for row, kept in zip(rows, keep, strict=True) if kept]
                for name, rows in self.scores.items()
            },
            {kind: counts[captions] for kind, counts in self.captions.items()},
            {kind: counts[words] for kind, counts in self.words.items()},
            moved[self.caption_item[captions]],
            moved[self.word_item[words]],
        )

    def tags(
        self, scorer: str = "pixel", threshold: float | None = None, stopwords: bool = False
    ) -> TagScores:
        """P, R, F1, accuracy over all words; threshold None is Otsu's; `stopwords` rejects function words."""
        return tag_scores(
            np.concatenate(
                [
                    select(
                        scores,
                        torch.from_numpy(item.stop) if stopwords else None,
                        threshold=threshold,
                    )[0].numpy()
                    for item, scores in zip(self.items, self.scores[scorer], strict=True)
                ]
            ),
            _truth(self.items),
        )

    def at(self, cuts: Cuts | None = None) -> HeldOut:
        """The scores at some cuts (the default ones when None)."""
        cuts = cuts or Cuts()
        captions, words = self.captions, self.words
        return HeldOut(
            cuts,
            len(self.items),
            sum(len(item.words) for item in self.items),
            len(self.caption_item),
            len(self.word_item),
            self.tags(threshold=cuts.tag),
            self.tags(threshold=cuts.tag, stopwords=True),
            average_precision(self._norms(), _truth(self.items)),
            _mean_iou(_at(captions["soft"], cuts.caption)),
            float(scores_from_counts(_at(captions["soft"], cuts.caption).sum(0)).iou),
            _mean_iou(_at(words["soft"], cuts.word)),
            _mean_iou(_at(captions["minmax"], cuts.caption_minmax)),
            _mean_iou(_at(words["minmax"], cuts.word_minmax)),
        )

    def best_cuts(self) -> Cuts:
        """The single thresholds that are best here, to be used on another split. TTDError without any true tag."""
        return Cuts(
            best_tag_threshold(self._norms(), _truth(self.items))[0],
            *(
                best_threshold(counts[kind], THRESHOLDS)
                for kind in MAPS
                for counts in (self.captions, self.words)
            ),
        )

    def item_iou(self, cuts: Cuts | None = None) -> np.ndarray:
        """How good the maps of each item are: mean of its Caption IoU and its mean word-map IoU; [B], NaN untagged."""
        cuts, result = cuts or Cuts(), np.full(len(self.items), np.nan)
        captions = scores_from_counts(_at(self.captions["soft"], cuts.caption)).iou
        words = scores_from_counts(_at(self.words["soft"], cuts.word)).iou
        for value, item in zip(captions, self.caption_item, strict=True):
            result[item] = (value + words[self.word_item == item].mean()) / 2
        return result

    def _norms(self) -> np.ndarray:
        return np.concatenate([minmax(scores).numpy() for scores in self.scores["pixel"]])


def evaluate_heldout(
    backbone: Backbone,
    items: Sequence[Item],
    background_threshold: float = 0.4,
    cuts: Cuts | None = None,
    image_size: int | None = None,
) -> HeldOut:
    """Score a model; `cuts` (of `best_cuts` on another split) replaces the defaults with soft masks cut at `bg`."""
    return measure(backbone, items, image_size=image_size).at(
        cuts or replace(Cuts(), caption=background_threshold, word=background_threshold)
    )


def best_cuts(backbone: Backbone, dev_items: Sequence[Item], image_size: int | None = None) -> Cuts:
    """The single thresholds with the best F1 and mean IoU on a separate split."""
    return measure(backbone, dev_items, image_size=image_size).best_cuts()


def baselines(items: Sequence[Item], seed: int = 0) -> Baselines:
    """All words, all content words; all-foreground, all-background and a random map (each pixel by a coin)."""
    stop, truth = np.concatenate([item.stop for item in items]), _truth(items)
    pairs = [mask for item in items for mask in item.masks]
    unions = [item.masks.any(0) for item in items if len(item.masks)]
    iou = [
        {name: _mean_iou(counts) for name, counts in caption_baselines(_areas(masks), seed).items()}
        for masks in (unions, pairs)
    ]
    return Baselines(tag_scores(np.ones_like(truth), truth), tag_scores(~stop, truth), *iou)


def measure(
    backbone: Backbone,
    items: Sequence[Item],
    *,
    image_size: int | None = None,
    scorers: Sequence[str] = ("pixel",),
    progress: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Look at every item once and count at every threshold; `progress` is called after every image.

    image_size, scorers, errors: as in `heldout_maps`.
    """
    scores, captions, words = {}, {}, {}
    for row, seen in heldout_maps(backbone, items, image_size, scorers):
        scores[row] = {name: values.cpu() for name, values in seen.scores.items()}
        captions[row], words[row] = _counts(backbone, seen, items[row])
        progress(1)
    rows = range(len(items))
    owners = [
        np.repeat(np.arange(len(items)), [len(part[row]["soft"]) for row in rows])
        for part in (captions, words)
    ]
    counts = [
        {kind: np.concatenate([part[row][kind] for row in rows]) for kind in MAPS}
        for part in (captions, words)
    ]
    return Measured(
        tuple(items),
        {name: [scores[row][name] for row in rows] for name in scorers},
        *counts,
        *owners,
    )


@torch.no_grad()
def _counts(
    backbone: Backbone, seen: ItemMaps, item: Item
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """TP, FP, FN int64 at the S thresholds by kind of map: of the caption [1, S, 3], and of its T true tags [T, S, 3].

    A caption without true tags has no foreground to compare with: [0, S, 3].
    """
    size, truth = item.image.shape[:2], [*item.masks, item.masks.any(0)]
    maps = torch.cat([seen.tags, seen.caption[None]])  # [T+1, h, w]
    soft = seen.grid.resize(
        backbone.soft_mask(maps), size
    )  # as in core.maps.sliding: the soft mask is resized
    flat = minmax(seen.grid.resize(maps, size).flatten(1)).view(-1, *size)
    captions, words = {}, {}
    for kind, values in zip(MAPS, (soft.cpu().numpy(), flat.cpu().numpy()), strict=True):
        counts = np.stack(
            [threshold_counts(*pair, THRESHOLDS) for pair in zip(values, truth, strict=True)]
        )
        captions[kind], words[kind] = counts[-1:] if item.tags else counts[:0], counts[:-1]
    return captions, words


def _at(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Counts [N, S, 3] at one of `THRESHOLDS` -> [N, 3]."""
    if round(threshold, 2) not in THRESHOLDS or abs(threshold - round(threshold, 2)) > 1e-9:
        raise TTDError(f"threshold {threshold}: choose a multiple of 0.01 between 0.01 and 0.99")
    return counts[:, THRESHOLDS.index(round(threshold, 2))]


def _mean_iou(counts: np.ndarray) -> float:
    """Mean IoU of counts [N, 3]; NaN where there is nothing to score."""
    iou = scores_from_counts(counts).iou
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def _truth(items: Sequence[Item]) -> np.ndarray:
    return np.concatenate([item.truth for item in items])


def _areas(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Foreground and background pixels of masks [H, W] -> int64 [N, 2]."""
    return np.array([[mask.sum(), mask.size - mask.sum()] for mask in masks], np.int64).reshape(
        -1, 2
    )
