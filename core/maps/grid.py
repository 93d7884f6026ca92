"""Where the cells of a feature map lie in the image: padding, resizing and averaging of maps.

A backbone pads the image it is given with zeros, centred, to multiples of its patch; its map covers
the padded image. Positions here are fractions of the *image*: 0 is its left (top) edge and 1 its
right (bottom) edge, so maps made at different scales meet in one coordinate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """One side of a map.

    It has `cells` cells of `stride` pixels; the image is `length` pixels, starting at pixel `pad`.
    """

    cells: int
    stride: int
    pad: int
    length: int

    @classmethod
    def of(cls, length: int, patch: int, stride: int) -> Axis:
        """The axis of an image side of `length` pixels.

        The side is padded to a multiple of `patch`, half of the padding (rounded down) before it.
        """
        total = -length % patch
        return cls((length + total) // stride, stride, total // 2, length)

    def centres(self) -> Tensor:
        """Centre of every cell as a fraction of the image: float64 [cells].

        Below 0 or above 1 where a cell is mostly padding.
        """
        pixels = (torch.arange(self.cells, dtype=torch.float64) + 0.5) * self.stride - self.pad
        return pixels / self.length

    def inside(self) -> Tensor:
        """Which cells show at least one pixel of the image: bool [cells].

        The others are padding and never count.
        """
        start = torch.arange(self.cells) * self.stride - self.pad
        return (start < self.length) & (start + self.stride > 0)

    def weights(self, positions: Tensor) -> Tensor:
        """Bilinear weights that read a map at `positions` [n]: float32 [n, cells], rows sum to 1.

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
        """Cells that show some of the image: bool [h, w]."""
        return self.rows.inside()[:, None] & self.cols.inside()

    def read(self, maps: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Maps [..., h, w] of this grid at row positions [n], column positions [m]: [..., n, m]."""
        return self.rows.weights(rows).to(maps) @ maps @ self.cols.weights(cols).to(maps).T

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps [..., h, w] -> the image at `size` = (H, W): [..., H, W], padding cropped."""
        return self.read(maps, pixel_centres(size[0]), pixel_centres(size[1]))


def pixel_centres(length: int) -> Tensor:
    """Centres of `length` equal pixels, as fractions of the image: float64 [length]."""
    return (torch.arange(length, dtype=torch.float64) + 0.5) / length
