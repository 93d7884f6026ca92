"""The maps of all sliding windows of an image, averaged at its own size.

    prepared = prepare(read_image("dog.jpg"), views)
    merged = merge_views(backbone, prepared, text, views)    # text [N, D]
    merged.at_image_size(range(5))                           # [5, H, W]: the first five classes

Every view's map (`sigmoid(a (S - b))`, or the cosine S) is read on the model's own grid; what
follows is linear, so the maps of all windows of a scale become the image's in one product of
matrices (`core.maps.windows`), for a few classes at a time: nothing of the size classes x image is
held. `core.maps.sliding_masks` is for backbones that refine inside the windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbones.base import Backbone
from .views import Prepared, Views
from .windows import Side

WINDOWS = 8  # windows in one forward pass, mirrored ones counted


@dataclass(frozen=True)
class Layer:
    """One scale: its maps [N, h, w] and the matrices to the image's rows [H, h], columns [W, w]."""

    maps: Tensor
    rows: Tensor
    cols: Tensor


class Merged:
    """The maps of an image for N classes, one `Layer` per scale, not yet of its size = (H, W).

    highest, lowest [N]: bounds of each class, since every value of the image is an average over
    scales of averages.
    """

    def __init__(self, layers: Sequence[Layer], size: tuple[int, int]) -> None:
        self._layers, self.size = layers, size
        self.highest = torch.stack([layer.maps.flatten(1).amax(1) for layer in layers]).mean(0)
        self.lowest = torch.stack([layer.maps.flatten(1).amin(1) for layer in layers]).mean(0)

    def at_image_size(self, classes: Sequence[int], rows: slice = slice(None)) -> Tensor:
        """Maps of n classes at the image's own size, or some of its rows: float32 [n, H, W]."""
        index = torch.as_tensor(classes, device=self.highest.device)
        parts = [layer.rows[rows] @ layer.maps[index] @ layer.cols.T for layer in self._layers]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total / len(parts)


class Place(NamedTuple):
    """One window: the index of its scale, 1 if mirrored, its row and its column of windows."""

    scale: int
    mirrored: int
    row: int
    col: int


Sides = tuple[Side, Side]  # rows and columns of one scale


@torch.no_grad()
def merge_views(
    backbone: Backbone,
    prepared: Prepared,
    text: Tensor,
    views: Views,
    *,
    soft: bool = True,
    batch: int = WINDOWS,
) -> Merged:
    """Encode all windows of an image and average their maps for text embeddings [N, D].

    prepared: of these `views`. soft: maps are soft masks in [0, 1], else cosines. batch: windows
    per forward pass, which changes results by rounding only.
    """
    return merge_views_each(backbone, prepared, [text], views, soft=soft, batch=batch)[0]


@torch.no_grad()
def merge_views_each(
    backbone: Backbone,
    prepared: Prepared,
    texts: Sequence[Tensor],
    views: Views,
    *,
    soft: bool = True,
    batch: int = WINDOWS,
) -> list[Merged]:
    """`merge_views` for several sets of texts [N, D]: the image is encoded once for all of them."""
    sides = [_sides(backbone, prepared.size, scaled, views) for scaled in prepared.scaled]
    copies = 1 + views.hflip
    cells = [[_empty(backbone, len(text), copies, pair) for pair in sides] for text in texts]
    for places, crops in _batches(backbone, prepared, sides, views.hflip, batch):
        pixels = backbone.encode_pixels(crops)
        for text, own in zip(texts, cells, strict=True):
            maps = backbone.similarity(pixels, text)
            if soft:
                maps = backbone.soft_mask(maps)
            _fill(own, places, maps)
    return [_merged(own, sides, prepared.size) for own in cells]


def _fill(cells: Sequence[Tensor], places: Sequence[Place], maps: Tensor) -> None:
    """Put the maps [b, N, h, w] of windows where they belong among the cells of every scale."""
    for place, one in zip(places, maps, strict=True):
        cells[place.scale][:, place.mirrored, place.row, :, place.col] = one


def _merged(cells: Sequence[Tensor], sides: Sequence[Sides], size: tuple[int, int]) -> Merged:
    """The maps of all scales, for an image of `size` = (H, W)."""
    return Merged([_layer(*pair) for pair in zip(cells, sides, strict=True)], size)


def _sides(backbone: Backbone, size: tuple[int, int], scaled: Tensor, views: Views) -> Sides:
    """Rows and columns of the scaled image [3, h, w] of an image of `size` = (H, W)."""
    height, width = scaled.shape[-2:]
    patch, stride = backbone.patch, backbone.stride
    rows = Side.of(views.spans(height), height, size[0], patch, stride)
    return rows, Side.of(views.spans(width), width, size[1], patch, stride)


def _empty(backbone: Backbone, classes: int, copies: int, sides: Sides) -> Tensor:
    """Where the maps of all windows of a scale go: [N, 1 or 2, n, h, m, w]."""
    rows, cols = sides
    shape = (classes, copies, len(rows.spans), rows.cells, len(cols.spans), cols.cells)
    return torch.empty(shape, device=backbone.device)


def _batches(
    backbone: Backbone, prepared: Prepared, sides: Sequence[Sides], hflip: bool, batch: int
) -> Iterator[tuple[list[Place], Tensor]]:
    """All windows, mirrored ones too, as normalized batches [b, 3, h, w] of windows of one size."""
    scaled = [backbone.normalize(image[None])[0] for image in prepared.scaled]
    for places in _by_size(sides, hflip):
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            yield some, torch.stack([_crop(scaled[p.scale], sides[p.scale], p) for p in some])


def _by_size(sides: Sequence[Sides], hflip: bool) -> list[list[Place]]:
    """The windows of all scales, those of one size together."""
    groups: dict[tuple[int, int], list[Place]] = {}
    for scale, (rows, cols) in enumerate(sides):
        size = (rows.spans[0][1] - rows.spans[0][0], cols.spans[0][1] - cols.spans[0][0])
        every = itertools.product(range(1 + hflip), range(len(rows.spans)), range(len(cols.spans)))
        groups.setdefault(size, []).extend(Place(scale, *rest) for rest in every)
    return list(groups.values())


def _crop(image: Tensor, sides: Sides, place: Place) -> Tensor:
    """The window at `place` of a scaled image [3, H, W]: [3, h, w]."""
    top, bottom = sides[0].spans[place.row]
    left, right = sides[1].spans[place.col]
    crop = image[:, top:bottom, left:right]
    return crop.flip(-1) if place.mirrored else crop


def _layer(cells: Tensor, sides: Sides) -> Layer:
    """Cells [N, 1 or 2, n, h, m, w] -> maps side by side [N, n * h, m * w].

    Mirrored ones are averaged in here where the padding is even. Where it is not, there are twice
    as many columns: the windows', then the mirrored windows'.
    """
    rows, cols = sides
    matrix = cols.matrix
    if cells.shape[1] == 2 and cols.mirrored is None:
        cells = (cells[:, :1] + cells[:, 1:].flip(-1)) / 2
    elif cells.shape[1] == 2 and cols.mirrored is not None:
        cells = cells.permute(0, 2, 3, 1, 4, 5).flatten(3, 4)[:, None]
        matrix = torch.cat([matrix, cols.mirrored], 1) / 2
    cells = cells[:, 0].flatten(3, 4).flatten(1, 2)
    return Layer(cells, rows.matrix.to(cells), matrix.to(cells))
