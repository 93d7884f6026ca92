"""Sliding windows over an image, and the matrices that put the maps of all windows together in one product.

Everything between the map of a window and the map of the image is linear and works on rows and
columns separately: resizing the map to the window, cropping the window's padding, averaging where
windows overlap, resizing to the image. So all of it is one matrix per side, and no map of a
window's or a scaled image's size is ever made:

    map of the image = Rows @ M @ Cols^T,    M = the maps of all windows side by side, as they lie in the image
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Span = tuple[int, int]  # first pixel and one past the last


def window_spans(length: int, window: int, stride: int) -> list[Span]:
    """Where windows of `window` pixels lie on a side of `length` pixels, as TCL and mmsegmentation place them.

    n = floor(max(length - window + stride - 1, 0) / stride) + 1 windows; window k ends at min(k
    stride + window, length) and starts `window` before that, so the last ones are pulled back; a
    shorter side is one window.

    >>> window_spans(597, 448, 224)
    [(0, 448), (149, 597)]
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = (min(k * stride + window, length) for k in range(count))
    return [(max(end - window, 0), end) for end in ends]


def bilinear(out: int, cells: int) -> Tensor:
    """Bilinear interpolation (align_corners False, no antialiasing) of `cells` values to `out`: [out, cells], float64.

    Each row sums to 1; equal to torch's `interpolate` along one side.
    """
    return (1 - (_positions(out, cells)[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def resampled(values: Tensor, out: int) -> Tensor:
    """`bilinear(out, len(values)) @ values` by the two rows that each of its rows mixes: [cells, ...] -> [out, ...].

    The product itself takes a CPU longer than a GPU needs for the image's windows.
    """
    at = _positions(out, len(values))
    low = at.long()  # positions are not negative: the integer below
    high = (low + 1).clamp(max=len(values) - 1)
    share = (at - low).view(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share


def _positions(out: int, cells: int) -> Tensor:
    """Where `out` equal pixels have their centres among `cells` cells, 0 = centre of the first: float64 [out]."""
    return ((torch.arange(out, dtype=torch.float64) + 0.5) * cells / out - 0.5).clamp(0, cells - 1)


@dataclass(frozen=True)
class Side:
    """One side of a scaled image: its windows, and how a map made of theirs becomes a map of the image.

    spans: the windows; cells: of the map of each; matrix: float32 [pixels of the image,
    len(spans) * cells];
    mirrored: the same for maps of mirrored windows, cells as they come; None where it is enough to
    mirror the map.
    """

    spans: list[Span]
    cells: int
    matrix: Tensor
    mirrored: Tensor | None

    @classmethod
    def of(cls, length: int, final: int, window: int, step: int, patch: int, stride: int) -> Side:
        """The side of `length` pixels of an image whose own side has `final` pixels.

        window, step: of the windows; patch: windows are padded to its multiples, half of it
        (rounded down) before;
        stride: pixels per cell of the model's maps.
        """
        spans = window_spans(length, window, step)
        size = spans[0][1] - spans[0][0]
        padding = -size % patch
        cells = (size + padding) // stride
        read = bilinear(size + padding, cells)[
            padding // 2 : padding // 2 + size
        ]  # window's pixels from its cells
        matrix = resampled(_side_by_side(spans, read, length), final)
        # With uneven padding a mirrored window's cells lie one pixel off those of the window.
        mirrored = (
            resampled(_side_by_side(spans, read.flip(0), length), final) if padding % 2 else None
        )
        return cls(spans, cells, matrix.float(), None if mirrored is None else mirrored.float())


def _side_by_side(spans: list[Span], read: Tensor, length: int) -> Tensor:
    """Average over the windows that cover a pixel: read [size, cells] -> float64 [length, len(spans) * cells]."""
    placed = torch.zeros(length, len(spans), read.shape[1], dtype=torch.float64)
    for k, (start, end) in enumerate(spans):
        placed[start:end, k] = read
    return placed.flatten(1) / coverage(spans, length)[:, None]


def coverage(spans: list[Span], length: int) -> Tensor:
    """How many windows cover each pixel: float64 [length], at least 1."""
    count = torch.zeros(length, dtype=torch.float64)
    for start, end in spans:
        count[start:end] += 1
    return count
