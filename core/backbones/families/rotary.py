"""Rotary positions (RoPE) of image towers: from a grid of patches to a `Rotation`.

The channels of a head are split into two halves, one for each axis; tokens before the patches are
not turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import Rotation

Grid = tuple[int, int]


@dataclass(frozen=True)
class PerceptionTurns:
    """Perception Encoder's: positions in whole patches, x before y, pairs side by side.

    Angle of the k-th pair: position / temperature^(4k / head_dim). Positions begin at `offset`,
    and steps stay whole on every grid, as in Meta's code (timm rescales them to the grid of the
    pretraining; on that grid both agree).

    prefix: tokens before the patches; offset: 1 beside a class token, else 0.
    """

    head_dim: int
    prefix: int
    offset: float
    temperature: float = 10_000.0

    def __call__(self, grid: Grid) -> Rotation:
        """Grid (h, w) -> rotation of prefix + h*w tokens, row-major."""
        h, w = grid
        count = self.head_dim // 4
        bands = 1 / self.temperature ** (torch.arange(count, dtype=torch.float32) / count)
        down = (torch.arange(h, dtype=torch.float32) + self.offset)[:, None, None] * bands
        across = (torch.arange(w, dtype=torch.float32) + self.offset)[None, :, None] * bands
        angles = torch.cat([across.expand(h, w, count), down.expand(h, w, count)], dim=-1)
        angles = angles.flatten(0, 1).repeat_interleave(2, dim=-1)
        return _with_prefix(angles, self.prefix, half=False)


@dataclass(frozen=True)
class DinoTurns:
    """DINOv3's: patch centres scaled to [-1, 1] on each axis, y before x, halves paired.

    Angle of the k-th pair: 2 pi position / periods[k].

    periods: [head_dim / 4], from the weight file; prefix: tokens before the patches.
    """

    periods: Tensor
    prefix: int

    def __call__(self, grid: Grid) -> Rotation:
        """Grid (h, w) -> rotation of prefix + h*w tokens, row-major."""
        h, w = grid
        count = len(self.periods)
        down = _centres(h)[:, None, None] * (2 * math.pi / self.periods)
        across = _centres(w)[None, :, None] * (2 * math.pi / self.periods)
        angles = torch.cat([down.expand(h, w, count), across.expand(h, w, count)], dim=-1)
        angles = angles.flatten(0, 1)
        return _with_prefix(torch.cat([angles, angles], dim=-1), self.prefix, half=True)


def _centres(n: int) -> Tensor:
    """[n]: the centres of n equal parts of [-1, 1]."""
    return (torch.arange(n, dtype=torch.float32) + 0.5) / n * 2 - 1


def _with_prefix(angles: Tensor, prefix: int, half: bool) -> Rotation:
    """Angles [h*w, head_dim] -> rotation of prefix + h*w tokens, the first ones as they are."""
    angles = torch.cat([angles.new_zeros(prefix, angles.shape[1]), angles])
    return Rotation(angles.cos(), angles.sin(), half)
