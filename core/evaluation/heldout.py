"""How good a model is on held-out captions: tags, Caption IoU and word-map IoU together.

    items = load_heldout("../world")
    scores = evaluate_heldout(load_backbone("tiny"), items)
    scores.pixel_f1, scores.caption_iou, scores.word_map_iou       # fractions in [0, 1]

Images of any sizes: each goes through the model once, at one scale, with the short side
`image_size` (the model's own by default); images of equal size go together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..backbones.base import Backbone
from ..data.heldout import Item, load_heldout
from ..metrics.segmentation import Counts, caption_baselines, threshold_counts
from ..metrics.tags import tag_scores
from ..tags.selection import minmax
from ..utils.finite import check_finite
from .captions import THRESHOLDS
from .heldout_maps import ItemMaps, heldout_maps
from .heldout_scores import (
    MAPS,
    Baselines,
    Cuts,
    HeldOut,
    MapCounts,
    Measured,
    mean_iou,
    true_words,
)

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


def evaluate_heldout(
    backbone: Backbone,
    items: Sequence[Item],
    background_threshold: float = 0.4,
    cuts: Cuts | None = None,
    image_size: int | None = None,
) -> HeldOut:
    """Score a model on items.

    Soft masks are cut at `background_threshold`, a multiple of 0.01; `cuts` (of `best_cuts` on
    another split) replaces all default cuts. Errors: as in `heldout_maps`.
    """
    usual = replace(Cuts(), caption=background_threshold, word=background_threshold)
    return measure(backbone, items, image_size=image_size).at(cuts or usual)


def best_cuts(backbone: Backbone, dev_items: Sequence[Item], image_size: int | None = None) -> Cuts:
    """The single thresholds with the best F1 and mean IoU on a separate split."""
    return measure(backbone, dev_items, image_size=image_size).best_cuts()


def baselines(items: Sequence[Item], seed: int = 0) -> Baselines:
    """Trivial baselines: all words, all content words; constant maps and a random map."""
    stop, truth = np.concatenate([item.stop for item in items]), true_words(items)
    pairs: list[npt.NDArray[np.bool_]] = []
    unions: list[npt.NDArray[np.bool_]] = []
    for item in items:
        pairs += list(item.masks)
        if item.tags:
            unions.append(np.any(item.masks, axis=0))
    return Baselines(
        all_words=tag_scores(np.ones_like(truth), truth),
        all_content_words=tag_scores(~stop, truth),
        caption_iou=_trivial_iou(unions, seed),
        word_map_iou=_trivial_iou(pairs, seed),
    )


def _trivial_iou(masks: Sequence[npt.NDArray[np.bool_]], seed: int) -> dict[str, float]:
    """Mean IoU of trivial maps against masks bool [H, W], by name."""
    true = np.array([np.count_nonzero(mask) for mask in masks], np.int64)
    pixels = np.array([mask.size for mask in masks], np.int64)
    counts = caption_baselines(np.stack([true, pixels - true], axis=1), seed)
    return {name: mean_iou(values) for name, values in counts.items()}


def measure(
    backbone: Backbone,
    items: Sequence[Item],
    *,
    image_size: int | None = None,
    scorers: Sequence[str] = ("pixel",),
    progress: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Look at every item once and count at every threshold.

    progress: called after every image. image_size, scorers, errors: as in `heldout_maps`.
    """
    seen_items: dict[int, _Counted] = {}
    for row, seen in heldout_maps(backbone, items, image_size, scorers):
        seen_items[row] = _count(backbone, seen, items[row])
        progress(1)
    counted = [seen_items[row] for row in range(len(items))]
    scores = {}
    for name in scorers:
        scores[name] = [one.scores[name] for one in counted]
    return Measured(
        items=tuple(items),
        scores=scores,
        captions=_joined([one.caption for one in counted]),
        words=_joined([one.words for one in counted]),
    )


@dataclass(frozen=True)
class _Counted:
    """One item: scores of its words [K] by scorer, and counts at the S thresholds by kind of map.

    caption: int64 [1, S, 3], or [0, S, 3] without true tags; words: int64 [T, S, 3].
    """

    scores: dict[str, torch.Tensor]
    caption: dict[str, Counts]
    words: dict[str, Counts]


def _joined(parts: Sequence[dict[str, Counts]]) -> MapCounts:
    """The counts of all items one after the other, with the rows of the items."""
    counts = {}
    for kind in MAPS:
        counts[kind] = np.concatenate([part[kind] for part in parts])
    sizes = [len(part[MAPS[0]]) for part in parts]
    return MapCounts(counts, np.repeat(np.arange(len(parts)), sizes))


@torch.no_grad()
def _count(backbone: Backbone, seen: ItemMaps, item: Item) -> _Counted:
    """Compare the maps of one item with the truth at every threshold."""
    for found in (seen.caption, seen.tags, *seen.scores.values()):
        check_finite(found, item.id)
    size, truth = item.image.shape[:2], [*item.masks, np.any(item.masks, axis=0)]
    maps = torch.cat([seen.tags, seen.caption[None]])  # [T + 1, h, w]
    # As in core.maps.sliding, the soft mask is resized, not the cosine.
    soft = seen.grid.resize(backbone.soft_mask(maps), size)
    flat = minmax(seen.grid.resize(maps, size).flatten(1)).view(-1, *size)
    caption, words = {}, {}
    for kind, values in zip(MAPS, (soft.cpu().numpy(), flat.cpu().numpy()), strict=True):
        pairs = zip(values, truth, strict=True)
        counts = np.stack([threshold_counts(one, mask, THRESHOLDS) for one, mask in pairs])
        # A caption without true tags has no foreground to compare with.
        caption[kind] = counts[-1:] if item.tags else counts[:0]
        words[kind] = counts[:-1]
    scores = {name: values.cpu() for name, values in seen.scores.items()}
    return _Counted(scores, caption, words)
