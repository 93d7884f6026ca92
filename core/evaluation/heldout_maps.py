"""What a model sees in held-out images: cosine maps of every word, true tag and caption, and the words' scores.

Each image goes through the model once, at one scale; every distinct text is encoded once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..backbones.base import Backbone
from ..data.heldout import Item
from ..data.images import resized_tensor, target_size
from ..errors import TTDError
from ..maps.grid import Grid
from ..maps.views import average_maps, encode_views, finest_grid, peak_cells
from ..tags.scoring import FORWARD_PIXELS, check_settings
from ..text.encode import encode_texts

BATCH = 64  # images at a time, fewer when they are large


@dataclass(frozen=True)
class ItemMaps:
    """One item: cosine maps of its K words [K, h, w], T true tags [T, h, w] and caption [h, w] on `grid`.

    scores: raw scores of the words [K] by scorer.
    """

    words: Tensor
    tags: Tensor
    caption: Tensor
    grid: Grid
    scores: dict[str, Tensor]


@torch.no_grad()
def heldout_maps(
    backbone: Backbone,
    items: Sequence[Item],
    image_size: int | None = None,
    scorers: Sequence[str] = ("pixel",),
) -> Iterator[tuple[int, ItemMaps]]:
    """(row of the item, what the model sees in it) for all items, those whose images have one size together.

    image_size: short side of the images (None: the model's own); scorers: any of
    core.tags.scoring.SCORERS. Tensors are float32 on the backbone's device. Raises TTDError for no
    items and for unknown scorers.
    """
    if not items:
        raise TTDError("no images to score the model on: give at least one")
    check_settings(scorers, (1.0,))
    size = image_size or backbone.image_size
    texts = list(
        dict.fromkeys(text for item in items for text in (*item.words, *item.tags, item.text))
    )
    embedded = dict(zip(texts, encode_texts(backbone, texts), strict=True))  # text -> [D]
    for rows in _batches(items, size):
        yield from zip(
            rows,
            _maps(backbone, [items[row] for row in rows], embedded, scorers, size),
            strict=True,
        )


def _batches(items: Sequence[Item], size: int) -> Iterator[list[int]]:
    """Rows of items whose resized images are of one size, in batches of a bounded number of pixels."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        groups[target_size(*item.image.shape[:2], size)].append(row)
    for (height, width), rows in groups.items():
        step = max(1, min(BATCH, FORWARD_PIXELS // (height * width)))
        yield from (rows[start : start + step] for start in range(0, len(rows), step))


def _maps(
    backbone: Backbone,
    items: Sequence[Item],
    embedded: dict[str, Tensor],
    scorers: Sequence[str],
    size: int,
) -> Iterator[ItemMaps]:
    """B items whose images have one size."""
    images = torch.stack([resized_tensor(item.image, size) for item in items])  # [B, 3, H, W]
    views, pooled = encode_views(backbone, images, hflip=False, pooled="image" in scorers)
    grid = finest_grid(views)
    rows = [
        torch.stack([embedded[text] for text in (*item.words, *item.tags, item.text)])
        for item in items
    ]
    maps = average_maps(
        backbone, views, pad_sequence(rows, batch_first=True)
    )  # [B, K+T+1 of the longest, h, w]
    peaks = peak_cells(maps, grid)[0]
    for i, (item, texts) in enumerate(zip(items, rows, strict=True)):
        words, tags, _ = maps[i, : len(texts)].split([len(item.words), len(item.tags), 1])
        own = texts[: len(item.words)]
        scores = {"pixel": peaks[i, : len(own)], "text": own @ texts[-1]}
        scores |= {} if pooled is None else {"image": own @ pooled[i]}
        yield ItemMaps(
            words, tags, maps[i, len(texts) - 1], grid, {name: scores[name] for name in scorers}
        )
