"""Masks as COCO writes them: run lengths down the columns, background first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import TTDError

Mask: TypeAlias = npt.NDArray[np.bool_]
Integers: TypeAlias = npt.NDArray[np.int64]


def encode(mask: Mask) -> dict[str, list[int]]:
    """bool [H, W] -> {"size": [H, W], "counts": [background, foreground, background, ...]}.

    Runs go down the columns, one column after the other; the first is background, perhaps empty.
    """
    height, width = mask.shape
    flat = np.asarray(mask, bool).T.ravel()  # [W * H]
    ends = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff(ends, prepend=0, append=flat.size)
    return {"size": [height, width], "counts": counts.tolist() if flat.size else []}


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """COCO's box (left, top, width, height), in pixels, of a mask bool [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def compress(mask: Mask) -> dict[str, Any]:
    """bool [H, W] -> {"size": [H, W], "counts": str}: `encode` with COCO's compressed string.

    What pycocotools' `encode` gives, its bytes as text, so that it can stand in JSON; pycocotools
    takes it as it is.
    """
    runs = encode(mask)
    return {"size": runs["size"], "counts": _packed(runs["counts"])}


def _packed(counts: Sequence[int]) -> str:
    """Run lengths as COCO's string, see `_unpacked`."""
    text = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            part = value & 31
            value >>= 5
            more = value != (-1 if part & 16 else 0)
            text.append(chr(48 + part + 32 * more))
    return "".join(text)


def decode(rle: Mapping[str, Any]) -> Mask:
    """{"size": [H, W], "counts": list or COCO's compressed string} -> bool [H, W].

    Raises TTDError when the counts do not fill the size.
    """
    height, width, runs = run_lengths(rle)
    foreground = np.arange(len(runs)) % 2 == 1
    columns = np.repeat(foreground, runs).reshape(width, height)
    return np.transpose(columns)


def run_lengths(rle: Mapping[str, Any]) -> tuple[int, int, Integers]:
    """H, W and the run lengths int64 [R] of such a mask, background first. Errors as `decode`."""
    try:
        height, width = rle["size"]
        runs = _runs(rle["counts"])
        inside = ((runs >= 0) & (runs <= height * width)).all()
        sound = runs.ndim == 1 and inside and runs.sum() == height * width
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TTDError(f"not a run-length mask ({error})") from None
    if not sound:
        raise TTDError(f"run lengths do not fill {height}x{width} pixels; the file is damaged")
    return height, width, runs


def _runs(counts: Any) -> Integers:
    """Run lengths [R] from a list, or from COCO's compressed string."""
    if isinstance(counts, str | bytes):
        return _unpacked(counts)
    runs = np.asarray(counts) if len(counts) else np.zeros(0, np.int64)
    if runs.dtype.kind not in "iuf" or (runs != np.floor(runs)).any():
        raise ValueError("counts that are no whole numbers")
    return runs.astype(np.int64)


def _unpacked(counts: str | bytes) -> Integers:
    """COCO's compressed counts [R]: 5 bits a character from '0' on, 32 means that more follows.

    From the third count on, each is the difference from the count before the last one.
    """
    data = counts.encode("ascii") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        part = byte - 48
        value |= (part & 31) << shift
        shift += 5
        if shift > 60:  # a count that no image has
            raise ValueError("a run length of more than 60 bits")
        if part & 32:
            continue
        if part & 16:
            value -= 1 << shift  # the sign bit of the last character
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return np.array(runs, np.int64)


def fill_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Mask:
    """Union of polygons [x0, y0, x1, y1, ...] in pixels -> bool [H, W].

    A pixel belongs to a polygon when its centre lies inside by the even-odd rule.
    """
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        if len(points) > 2:
            _fill(mask, points)
    return mask


def _fill(mask: Mask, points: npt.NDArray[np.float64]) -> None:
    """Add one polygon [P, 2] to mask [H, W].

    An edge flips every pixel right of where it crosses the line through a row's centres; pixels
    that are flipped an odd number of times are inside.
    """
    height, width = mask.shape
    (left, top), (right, bottom) = (
        _first_centre(corner, 0, (width, height)) for corner in (points.min(0), points.max(0))
    )
    rows, columns = _crossings(points, (top, bottom), (left, right))
    wide = int(right - left) + 1  # of the box that holds the polygon, and a column for flips beyond
    flips = np.bincount((rows - top) * wide + columns - left, minlength=int(bottom - top) * wide)
    inside = flips.reshape(-1, wide)[:, :-1].cumsum(1) % 2 == 1
    mask[top:bottom, left:right] |= inside


def _crossings(
    points: npt.NDArray[np.float64], span: tuple[Any, Any], bounds: tuple[Any, Any]
) -> tuple[Integers, Integers]:
    """Where the edges of a polygon [P, 2] cross the rows of `span`: row and column, [M] each.

    The column is that of the first pixel whose centre is not left of the edge, within `bounds`.
    """
    begin, end = points, np.roll(points, -1, axis=0)
    low = _first_centre(np.minimum(begin[:, 1], end[:, 1]), *span)
    high = _first_centre(np.maximum(begin[:, 1], end[:, 1]), *span)
    crossed = high - low
    edge = np.repeat(np.arange(len(points)), crossed)  # one entry for each row that an edge crosses
    before = np.repeat(crossed.cumsum() - crossed, crossed)  # entries of the edges before it
    rows = np.arange(len(edge)) - before + low[edge]
    (x0, y0), (x1, y1) = begin[edge].T, end[edge].T
    crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    return rows, _first_centre(crossing, *bounds)


def _first_centre(place: Any, first: Any, last: Any) -> Any:
    """The first pixel whose centre is not before `place`, in [first, last]; int64 of its shape."""
    return np.clip(np.ceil(place - 0.5), first, last).astype(np.int64)
