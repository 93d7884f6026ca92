"""What a model sees in held-out images: maps of words, true tags and captions; words' scores.

Each image goes through the model once, at one scale; every distinct text is encoded once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..backbones.base import Backbone
from ..data.heldout import Item
from ..errors import TTDError
from ..maps.encode import average_maps, encode_views, finest_grid, peak_cells
from ..maps.grid import Grid
from ..maps.views import Views, prepare, same_shapes
from ..tags.protocol import check_scorers
from ..text.encode import encode_texts

BATCH = 64  # images at a time, fewer when they are large


@dataclass(frozen=True)
class ItemMaps:
    """What the model sees in one item, cosine maps on `grid`.

    words: of its K words [K, h, w]; tags: of its T true tags [T, h, w]; caption: [h, w].
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
    """(row of the item, what the model sees in it) for all items, images of one size together.

    image_size: short side of the images in pixels (None: the model's own); scorers: any of
    core.tags.protocol.SCORERS. Tensors are float32 on the backbone's device. Raises TTDError for no
    items and for unknown scorers.
    """
    if not items:
        raise TTDError("no images to score the model on: give at least one")
    check_scorers(tuple(scorers))
    views = Views(image_size or backbone.image_size)
    texts = list(dict.fromkeys(itertools.chain.from_iterable(map(_texts, items))))
    embedded = dict(zip(texts, encode_texts(backbone, texts), strict=True))  # text -> [D]
    shapes = [views.shapes(item.image.shape[0], item.image.shape[1]) for item in items]
    for together in same_shapes(shapes):
        for start in range(0, len(together), BATCH):
            rows = together[start : start + BATCH]
            some = [items[row] for row in rows]
            yield from zip(rows, _maps(backbone, some, embedded, scorers, views), strict=True)


def _texts(item: Item) -> tuple[str, ...]:
    """The texts that are looked for in an item: words, tags, caption."""
    return (*item.words, *item.tags, item.text)


def _stack(embedded: dict[str, Tensor], texts: Sequence[str]) -> Tensor:
    """Embeddings of texts, [n, D]."""
    return torch.stack([embedded[text] for text in texts])


def _maps(
    backbone: Backbone,
    items: Sequence[Item],
    embedded: dict[str, Tensor],
    scorers: Sequence[str],
    views: Views,
) -> Iterator[ItemMaps]:
    """B items whose images have one size."""
    prepared = [prepare(item.image, views) for item in items]
    encoded, pooled = encode_views(backbone, prepared, views, pooled="image" in scorers)
    grid = finest_grid(encoded)
    rows = [_stack(embedded, _texts(item)) for item in items]
    # [B, K + T + 1 of the longest, h, w]
    maps = average_maps(backbone, encoded, pad_sequence(rows, batch_first=True))
    peaks = peak_cells(maps, grid)[0]
    for i, (item, texts) in enumerate(zip(items, rows, strict=True)):
        count = len(item.words)
        tags = maps[i, count : count + len(item.tags)]
        scores = {"pixel": peaks[i, :count], "text": texts[:count] @ texts[-1]}
        if pooled is not None:
            scores["image"] = texts[:count] @ pooled[i]
        chosen = {name: scores[name] for name in scorers}
        yield ItemMaps(maps[i, :count], tags, maps[i, len(texts) - 1], grid, chosen)
