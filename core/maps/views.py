"""From images to similarity maps: views (scales, mirrored or not), their average, and where it is highest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from .grid import Grid


@dataclass(frozen=True)
class View:
    """B images at one scale, mirrored or not: their pixel embeddings [B, D, h, w] and where the cells lie."""

    pixels: Tensor
    grid: Grid
    mirrored: bool

    def first(self, count: int) -> View:
        """The same view of the first `count` images."""
        return (
            self
            if count == len(self.pixels)
            else View(self.pixels[:count], self.grid, self.mirrored)
        )


def encode_views(
    backbone: Backbone, images: Tensor, hflip: bool, pooled: bool
) -> tuple[list[View], Tensor | None]:
    """Encode images [B, 3, H, W] in [0, 1] of one scale, and mirrored too with `hflip`, in one batch.

    Returns the views, and with `pooled` the pooled embeddings [B, D] float32: each of unit length,
    then averaged over the views, so that their product with a unit word is the average cosine.
    """
    batch = torch.cat([images, images.flip(-1)]) if hflip else images
    batch = backbone.normalize(batch.to(backbone.device))
    pixels, whole = backbone.encode_both(batch) if pooled else (backbone.encode_pixels(batch), None)
    grid = Grid.of(images.shape[-2:], backbone.patch, backbone.stride)
    views = [View(part, grid, i == 1) for i, part in enumerate(pixels.split(len(images)))]
    if whole is not None:
        whole = F.normalize(whole.float(), dim=-1).unflatten(0, (-1, len(images))).mean(0)
    return views, whole


def finest_grid(views: Sequence[View]) -> Grid:
    """The grid with the most cells (the first of equals)."""
    return max((view.grid for view in views), key=lambda grid: grid.rows.cells * grid.cols.cells)


def average_maps(backbone: Backbone, views: Sequence[View], text: Tensor) -> Tensor:
    """Similarity maps averaged over the views on their finest grid: [B, K, h, w] float32.

    text [K, D], or [B, K, D] for words of its own for each image. Cells of nothing but padding
    hold values too: see `Grid.inside`.
    """
    grid = finest_grid(views)
    rows, cols = grid.rows.centres(), grid.cols.centres()
    total = None
    for view in views:
        maps = backbone.similarity(view.pixels, text)
        if view.mirrored or view.grid != grid:
            maps = view.grid.read(maps, rows, 1 - cols if view.mirrored else cols)
        total = maps if total is None else total + maps
    return total / len(views)


def peak_cells(maps: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Maximum [...] of maps [..., h, w] over the cells that show some of the image, and its flat cell index [...]."""
    inside = grid.inside().to(maps.device)
    return maps.masked_fill(~inside, -torch.inf).flatten(-2).max(-1)


def cells_to_pixels(cells: Tensor, grid: Grid, heights: Tensor, widths: Tensor) -> Tensor:
    """Centres of flat cells [...] as pixels of images of that height and width (broadcast): [..., 2] = (x, y)."""
    cells = cells.cpu()
    y = (grid.rows.centres()[cells // grid.cols.cells] * heights).long()
    x = (grid.cols.centres()[cells % grid.cols.cells] * widths).long()
    return torch.stack(
        [x.clamp(min=0).minimum(widths - 1), y.clamp(min=0).minimum(heights - 1)], -1
    )
