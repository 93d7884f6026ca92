"""The parts of tools/story.py: its world, which image is shown, and what is written on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core.backbones.base import Backbone
from core.data.heldout import Item
from core.evaluation.heldout import Cuts, Measured
from core.evaluation.heldout_maps import heldout_maps
from core.plots.before_after import Cell, Column
from core.tags.selection import select

TRAIN, HELD_OUT, SEED = 2000, 120, 11  # no other world of the documentation has this seed
WORDS = 5  # true words in the image, at most
COVERED = 0.9  # a caption that names more of the image than this shows little
RULE = (
    "the image with the best maps after training, of those that gained and whose caption names a "
    "thing that is not there, two things that are, and not the whole image"
)
LEGEND = (
    "Red: the model sees the word here; blue: it does not. IoU: overlap of the map, cut at 0.40, "
    "with the truth.",
    "kept / rejected (grey): whether the model takes the word to be in the image. It was trained "
    "on captions alone: no truth, no masks.",
)


@dataclass(frozen=True)
class Look:
    """What a model makes of one image of T tags and K words.

    tags, words, caption: soft masks [T, H, W], [K, H, W], [H, W] in [0, 1]; kept: words that are
    selected, bool [K]; norms: their scores [K].
    """

    tags: np.ndarray
    words: np.ndarray
    caption: np.ndarray
    kept: np.ndarray
    norms: np.ndarray


def make_story_world(
    folder: Path,
    train: int = TRAIN,
    held_out: int = HELD_OUT,
    seed: int = SEED,
    workers: int = 2,
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Make the story's world under `folder`, unless it is there, whole. TTDError: not writable."""
    from core.world.writer import WorldConfig, made_with, make_world

    config = WorldConfig(train=train, val=held_out, seed=seed)
    made = made_with(folder / "world.yaml") or {}
    if (made.get("train"), made.get("val"), made.get("seed")) != (train, held_out, seed):
        make_world(folder, config, workers=workers, overwrite=True, progress=progress)


def choose_picture(before: Measured, after: Measured) -> Item:
    """`RULE`, by the mean of Caption IoU and mean word-map IoU. Of all where none is such."""
    best = np.where(
        after.item_iou() > before.item_iou(), after.item_iou(), -9
    )  # NaN is not above anything
    fit = [
        absent_word(item) is not None and len(item.tags) > 1 and item.masks.any(0).mean() < COVERED
        for item in before.items
    ]
    return before.items[int((best + 99 * (np.array(fit) & (best >= 0))).argmax())]


def absent_word(item: Item) -> int | None:
    """The first word of the caption that names a thing of the world and is not in the image."""
    from core.world.objects import NOUNS

    found = [
        k for k, word in enumerate(item.words) if word.casefold() in NOUNS and not item.truth[k]
    ]
    return found[0] if found else None


def look(backbone: Backbone, item: Item) -> Look:
    """One image through a model."""
    [(_, seen)] = heldout_maps(backbone, [item])
    kept, norms = select(seen.scores["pixel"].cpu())
    maps = torch.cat([seen.tags, seen.words, seen.caption[None]])
    soft = seen.grid.resize(backbone.soft_mask(maps), item.image.shape[:2]).cpu().numpy()
    count = len(item.tags)
    return Look(soft[:count], soft[count:-1], soft[-1], kept.numpy(), norms.numpy())


def columns_of(item: Item, looks: Sequence[Look], bg: float = Cuts().word) -> list[Column]:
    """The image's columns: the caption, its true words in order, and one word that is not there."""
    truth = item.masks.any(0)
    columns = [
        Column(
            "whole caption",
            "all that it names",
            tuple(_cell(one.caption, truth, bg, None) for one in looks),
            truth,
        )
    ]
    places = {word.casefold(): k for k, word in reversed(list(enumerate(item.words)))}
    shown = sorted(range(len(item.tags)), key=lambda k: places.get(item.tags[k].casefold(), 0))[
        :WORDS
    ]
    for k in shown:
        word = places.get(item.tags[k].casefold())
        cells = tuple(
            _cell(one.tags[k], item.masks[k], bg, None if word is None else bool(one.kept[word]))
            for one in looks
        )
        columns.append(Column(item.tags[k], "in the image", cells, item.masks[k]))
    rejected = absent_word(item)
    if rejected is None:
        rejected = next((k for k in range(len(item.words)) if not item.truth[k]), None)
    if rejected is not None:
        cells = tuple(
            _cell(one.words[rejected], None, bg, bool(one.kept[rejected])) for one in looks
        )
        columns.append(Column(item.words[rejected], "named, but not there", cells, None))
    return columns


def _cell(soft: np.ndarray, truth: np.ndarray | None, bg: float, kept: bool | None) -> Cell:
    parts = [] if kept is None else ["kept" if kept else "rejected"]
    if truth is not None:
        over = soft > bg
        parts.append(f"IoU {100 * (over & truth).sum() / (over | truth).sum():.0f} %")
    good = None if kept is None else kept == (truth is not None)
    return Cell(soft, ", ".join(parts), good, quiet=kept is False)
