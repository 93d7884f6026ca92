"""From prepared images to similarity maps averaged over all views, and where they are highest.

encoded, pooled = encode_views(backbone, [prepare(pixels, views)], views)
maps = average_maps(backbone, encoded, text)              # [1, K, h, w], on the finest grid
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from .grid import Grid
from .views import Prepared, Views


@dataclass(frozen=True)
class EncodedView:
    """B images at one scale, mirrored or not.

    pixels: their pixel embeddings [B, D, h, w]. grid: where the cells lie.
    """

    pixels: Tensor
    grid: Grid
    mirrored: bool

    def first(self, count: int) -> EncodedView:
        """The same view of the first `count` images."""
        return EncodedView(self.pixels[:count], self.grid, self.mirrored)

    def only(self, row: int) -> EncodedView:
        """The same view of one of the images alone."""
        return EncodedView(self.pixels[row : row + 1], self.grid, self.mirrored)


@torch.no_grad()
def encode_views(
    backbone: Backbone, prepared: Sequence[Prepared], views: Views, pooled: bool = False
) -> tuple[list[EncodedView], Tensor | None]:
    """Encode B images of one size at every scale, whole; mirrored ones share their batch.

    prepared: of these `views`, whose windows are not looked at here (see `core.maps.sliding`).
    Returns the views and, with `pooled`, the pooled embeddings [B, D] float32 at the scale nearest
    to 1: each of unit length, then averaged over the image and the mirrored image, so that their
    product with a unit word is the average cosine.
    """
    for image in prepared:
        backbone.notice(*image.size)
    encoded: list[EncodedView] = []
    whole = None
    for i in range(len(views.scales)):
        images = torch.stack([image.scaled[i] for image in prepared])
        wanted = pooled and i == views.nearest
        more, vectors = _encode_scale(backbone, images, views.hflip, wanted)
        encoded += more
        whole = vectors if wanted else whole
    return encoded, whole


def _encode_scale(
    backbone: Backbone, images: Tensor, hflip: bool, pooled: bool
) -> tuple[list[EncodedView], Tensor | None]:
    """Images [B, 3, H, W] in [0, 1] of one scale, and mirrored too with `hflip`, in one batch."""
    batch = torch.cat([images, images.flip(-1)]) if hflip else images
    batch = backbone.normalize(batch.to(backbone.device))
    if pooled:
        pixels, vectors = backbone.encode_both(batch)
        whole = F.normalize(vectors.float(), dim=-1).view(1 + hflip, len(images), -1).mean(0)
    else:
        pixels, whole = backbone.encode_pixels(batch), None
    grid = Grid.of((images.shape[-2], images.shape[-1]), backbone.patch, backbone.stride)
    views = [EncodedView(pixels[: len(images)], grid, False)]
    if hflip:
        views.append(EncodedView(pixels[len(images) :], grid, True))
    return views, whole


@torch.no_grad()
def encode_pooled(backbone: Backbone, prepared: Sequence[Prepared], views: Views) -> Tensor:
    """Pooled embeddings of B images of one size: [B, D] float32 on the CPU.

    Each of unit length, then averaged over all scales and the mirrored images. Pixel embeddings
    are not computed.
    """
    found = []
    for i in range(len(views.scales)):
        images = torch.stack([image.scaled[i] for image in prepared])
        for batch in (images, images.flip(-1)) if views.hflip else (images,):
            vectors = backbone.encode_image(backbone.normalize(batch.to(backbone.device)))
            found.append(F.normalize(vectors.float(), dim=-1).cpu())
    return torch.stack(found).mean(0)


def finest_grid(views: Sequence[EncodedView]) -> Grid:
    """The grid with the most cells (the first of equals)."""
    return max((view.grid for view in views), key=lambda grid: grid.rows.cells * grid.cols.cells)


def average_maps(backbone: Backbone, views: Sequence[EncodedView], text: Tensor) -> Tensor:
    """Similarity maps averaged over the views on their finest grid: [B, K, h, w] float32.

    text [K, D], or [B, K, D] for words of its own for each image. Cells of nothing but padding
    hold values too: see `Grid.inside`.
    """
    grid = finest_grid(views)
    rows, cols = grid.rows.centres(), grid.cols.centres()
    total: Tensor | None = None
    for view in views:
        maps = backbone.similarity(view.pixels, text)
        if view.mirrored or view.grid != grid:
            maps = view.grid.read(maps, rows, 1 - cols if view.mirrored else cols)
        total = maps if total is None else total + maps
    assert total is not None
    return total / len(views)


def peak_cells(maps: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Maximum [...] of maps [..., h, w] and its flat cell index [...] (int64).

    Only cells that show some of the image count.
    """
    inside = grid.inside().to(maps.device)
    best = maps.masked_fill(~inside, -torch.inf).flatten(-2).max(-1)
    return best.values, best.indices


def cells_to_pixels(cells: Tensor, grid: Grid, heights: Tensor, widths: Tensor) -> Tensor:
    """Centres of flat cells [...] as pixels (x, y): int64 [..., 2].

    heights, widths: of the images, int64, broadcast against `cells`.
    """
    cells = cells.cpu()
    y = (grid.rows.centres()[cells // grid.cols.cells] * heights).long()
    x = (grid.cols.centres()[cells % grid.cols.cells] * widths).long()
    x, y = x.clamp(min=0).minimum(widths - 1), y.clamp(min=0).minimum(heights - 1)
    return torch.stack([x, y], -1)
