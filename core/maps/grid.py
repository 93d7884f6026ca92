"""Where the cells of a feature map lie in the image: one helper for padding, resizing and averaging maps.

A backbone pads the image it is given with zeros, centred, to multiples of its patch; its map covers
the padded image. Positions here are fractions of the *image*: 0 is its left (top) edge and 1 its
right (bottom) edge, so maps made at different scales meet in one coordinate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """One side of a map: `cells` cells of `stride` pixels; the image is `length` pixels from pixel `pad` on."""

    cells: int
    stride: int
    pad: int
    length: int

    @classmethod
    def of(cls, length: int, patch: int, stride: int) -> Axis:
        """The axis that an image side of `length` pixels gets: padded to a multiple of `patch`, half of it before."""
        total = -length % patch
        return cls((length + total) // stride, stride, total // 2, length)

    def centres(self) -> Tensor:
        """Centre of every cell in the image, [cells]; below 0 or above 1 where a cell is mostly padding."""
        return (
            (torch.arange(self.cells, dtype=torch.float64) + 0.5) * self.stride - self.pad
        ) / self.length

    def inside(self) -> Tensor:
        """bool [cells]: the cell shows at least one pixel of the image; the others are padding and never count."""
        start = torch.arange(self.cells) * self.stride - self.pad
        return (start < self.length) & (start + self.stride > 0)

    def weights(self, positions: Tensor) -> Tensor:
        """Bilinear weights [n, cells] (float32) that read a map at `positions` [n]; each row sums to 1.

        Equal to bilinear interpolation with align_corners=False, followed by cropping the padding;
        beyond the outermost cells that are `inside` the map is constant.
        """
        inside = self.inside().nonzero()
        at = (positions.double() * self.length + self.pad) / self.stride - 0.5
        at = at.clamp(int(inside[0]), int(inside[-1]))[:, None]
        return (1 - (at - torch.arange(self.cells)).abs()).clamp(min=0).float()


class Grid(NamedTuple):
    """The two axes of a map [..., h, w]."""

    rows: Axis
    cols: Axis

    @classmethod
    def of(cls, size: tuple[int, int], patch: int, stride: int) -> Grid:
        """The grid of the map of an image of `size` = (H, W) pixels."""
        return cls(Axis.of(size[0], patch, stride), Axis.of(size[1], patch, stride))

    def inside(self) -> Tensor:
        """bool [h, w]: cells that show some of the image."""
        return self.rows.inside()[:, None] & self.cols.inside()

    def read(self, maps: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Maps [..., h, w] of this grid, read at row positions [n] and column positions [m] -> [..., n, m]."""
        return self.rows.weights(rows).to(maps) @ maps @ self.cols.weights(cols).to(maps).T

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps [..., h, w] -> the image at `size` = (H, W): [..., H, W], padding cropped."""
        return self.read(maps, pixel_centres(size[0]), pixel_centres(size[1]))


def pixel_centres(length: int) -> Tensor:
    """Centres of `length` equal pixels, as fractions of the image: [length]."""
    return (torch.arange(length, dtype=torch.float64) + 0.5) / length
