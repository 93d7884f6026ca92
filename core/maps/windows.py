"""The matrices that put the maps of all sliding windows together in one product.

Everything between the map of a window and the map of the image is linear and works on rows and
columns separately: resizing the map to the window, cropping the window's padding, averaging where
windows overlap, resizing to the image. So all of it is one matrix per side, and no map of a
window's or a scaled image's size is ever made:

    map of the image = Rows @ M @ Cols^T

where M holds the maps of all windows side by side, as they lie in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .views import Span


def bilinear(out: int, cells: int) -> Tensor:
    """Bilinear interpolation of `cells` values to `out`: float64 [out, cells], each row sums to 1.

    Equal to torch's `interpolate` along one side (align_corners False, no antialiasing).
    """
    return (1 - (_positions(out, cells)[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def resampled(values: Tensor, out: int) -> Tensor:
    """`bilinear(out, len(values)) @ values` by the two rows that each row mixes.

    [cells, ...] -> [out, ...]. The product itself takes a CPU longer than a GPU needs for the
    image's windows.
    """
    at = _positions(out, len(values))
    low = at.long()  # positions are not negative: the integer below
    high = (low + 1).clamp(max=len(values) - 1)
    share = (at - low).view(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share


def _positions(out: int, cells: int) -> Tensor:
    """Where `out` pixels have their centres among `cells` cells, 0 = the first's: float64 [out]."""
    return ((torch.arange(out, dtype=torch.float64) + 0.5) * cells / out - 0.5).clamp(0, cells - 1)


@dataclass(frozen=True)
class Side:
    """One side of a scaled image: its windows, and how their maps become a map of the image.

    spans: the windows. cells: of the map of each. matrix: float32 [pixels of the image,
    len(spans) * cells]. mirrored: the same for maps of mirrored windows, cells as they come; None
    where it is enough to mirror the map.
    """

    spans: Sequence[Span]
    cells: int
    matrix: Tensor
    mirrored: Tensor | None

    @classmethod
    def of(cls, spans: Sequence[Span], length: int, final: int, patch: int, stride: int) -> Side:
        """The side of `length` pixels, with windows `spans`, of an image side of `final` pixels.

        patch: windows are padded to its multiples, half of it (rounded down) before.
        stride: pixels per cell of the model's maps.
        """
        size = spans[0][1] - spans[0][0]
        padding = -size % patch
        before = padding // 2
        cells = (size + padding) // stride
        read = bilinear(size + padding, cells)[before : before + size]  # pixels from cells
        matrix = resampled(_side_by_side(spans, read, length), final)
        mirrored = None
        if padding % 2:  # uneven: a mirrored window's cells lie one pixel off those of the window
            mirrored = resampled(_side_by_side(spans, read.flip(0), length), final).float()
        return cls(spans, cells, matrix.float(), mirrored)


def _side_by_side(spans: Sequence[Span], read: Tensor, length: int) -> Tensor:
    """Average over the windows that cover a pixel: float64 [length, len(spans) * cells].

    read: pixels of a window from its cells, [size, cells].
    """
    placed = torch.zeros(length, len(spans), read.shape[1], dtype=torch.float64)
    for k, (start, end) in enumerate(spans):
        placed[start:end, k] = read
    return placed.flatten(1) / coverage(spans, length)[:, None]


def coverage(spans: Sequence[Span], length: int) -> Tensor:
    """How many windows cover each pixel: float64 [length], at least 1."""
    count = torch.zeros(length, dtype=torch.float64)
    for start, end in spans:
        count[start:end] += 1
    return count
