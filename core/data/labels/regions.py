"""Masks as intervals of pixels: areas, intersections and unions without unpacking a pixel.

A release of a hundred thousand masks of large images is compared in seconds; the numbers are those
of the unpacked masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from .rle import Integers, run_lengths

LARGEST = 1 << 31  # pixels that an image may have


@dataclass(frozen=True)
class Region:
    """A mask of an image of size (H, W).

    starts, ends: the intervals of its pixels down the columns, int64 [R] each, ascending, apart,
    none of them empty.
    """

    size: tuple[int, int]
    starts: Integers
    ends: Integers

    @property
    def area(self) -> int:
        """Its pixels."""
        return int((self.ends - self.starts).sum())

    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the box around it, in pixels; zeros for an empty mask."""
        if not len(self.starts):
            return 0, 0, 0, 0
        height, last = self.size[0], self.ends - 1
        left, right = int(self.starts[0] // height), int(last[-1] // height)
        turned = bool((self.starts // height != last // height).any())  # on into the next column
        top = 0 if turned else int((self.starts % height).min())
        bottom = height - 1 if turned else int((last % height).max())
        return left, top, right + 1, bottom + 1


def region_of(rle: Mapping[str, Any]) -> Region:
    """Of {"size": [H, W], "counts": list or compressed string}. TTDError: damaged run lengths."""
    height, width, runs = run_lengths(rle)
    if height * width > LARGEST:
        raise TTDError(f"a mask of {height} x {width} pixels is larger than any image")
    ends = runs.cumsum()
    starts, stops = (ends - runs)[1::2], ends[1::2]
    there = stops > starts
    return Region((height, width), starts[there], stops[there])


def unpacked(region: Region) -> npt.NDArray[np.bool_]:
    """The mask bool [H, W], to look at."""
    height, width = region.size
    flat = np.zeros(height * width, bool)
    for start, end in zip(region.starts.tolist(), region.ends.tolist(), strict=True):
        flat[start:end] = True
    mask: npt.NDArray[np.bool_] = flat.reshape(width, height).T
    return mask


def nothing(size: tuple[int, int]) -> Region:
    """No pixel of an image of size (H, W)."""
    return Region(size, np.zeros(0, np.int64), np.zeros(0, np.int64))


def intersection(first: Region, second: Region) -> int:
    """Pixels that both have. TTDError for regions of images of other sizes."""
    _same_size([first, second])
    if not len(first.starts) or not len(second.starts):
        return 0
    return int((_covered(first, second.ends) - _covered(first, second.starts)).sum())


def _covered(region: Region, places: Integers) -> Integers:
    """How many of the region's pixels lie before each place: int64 [N]."""
    lengths = region.ends - region.starts
    before = np.concatenate([[0], lengths.cumsum()])
    row = np.searchsorted(region.starts, places, side="right") - 1  # the interval begun last
    inside = np.clip(places - region.starts[np.maximum(row, 0)], 0, lengths[np.maximum(row, 0)])
    covered: Integers = np.where(row < 0, 0, before[np.maximum(row, 0)] + inside)
    return covered


def union(regions: Sequence[Region]) -> Region:
    """Pixels that any has, of at least one region. TTDError for images of other sizes."""
    _same_size(regions)
    starts = np.concatenate([region.starts for region in regions])
    ends = np.concatenate([region.ends for region in regions])
    if not len(starts):
        return Region(regions[0].size, starts, ends)
    order = starts.argsort(kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    first = np.append(True, starts[1:] > reach[:-1])  # of each stretch of touching intervals
    last = np.append(first[1:], True)
    return Region(regions[0].size, starts[first], reach[last])


def region_iou(first: Region, second: Region) -> float:
    """Intersection over union; 0 where both are empty."""
    both = intersection(first, second)
    either = first.area + second.area - both
    return both / either if either else 0.0


def iou_matrix(first: Sequence[Region], second: Sequence[Region]) -> npt.NDArray[np.float64]:
    """IoU of each with each: float64 [N, M]."""
    matrix = np.zeros((len(first), len(second)))
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            matrix[row, column] = region_iou(one, other)
    return matrix


def _same_size(regions: Sequence[Region]) -> None:
    sizes = {region.size for region in regions}
    if len(sizes) > 1:
        raise TTDError(f"masks of images of different sizes: {sorted(sizes)}")
