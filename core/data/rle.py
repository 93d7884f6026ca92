"""Masks as COCO writes them: run lengths down the columns, background first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import TTDError


def encode(mask: np.ndarray) -> dict[str, list[int]]:
    """bool [H, W] -> {"size": [H, W], "counts": [background, foreground, background, ...]}, column by column."""
    height, width = mask.shape
    flat = np.asarray(mask, bool).T.ravel()  # [W * H]
    changes = np.flatnonzero(
        np.diff(flat, prepend=False)
    )  # where a run ends; starts with background
    counts = np.diff(changes, prepend=0, append=flat.size)
    return {"size": [height, width], "counts": counts.tolist() if flat.size else []}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """{"size": [H, W], "counts": list or COCO's compressed string} -> bool [H, W].

    Raises TTDError when the counts do not fill the size.
    """
    try:
        height, width = rle["size"]
        counts = rle["counts"]
        runs = (
            _unpacked(counts) if isinstance(counts, str | bytes) else np.asarray(counts, np.int64)
        )
        sound = runs.ndim == 1 and (runs >= 0).all() and runs.sum() == height * width
    except (KeyError, TypeError, ValueError) as error:
        raise TTDError(f"not a run-length mask ({error})") from None
    if not sound:
        raise TTDError(f"run lengths do not fill {height}x{width} pixels; the file is damaged")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _unpacked(counts: str | bytes) -> np.ndarray:
    """COCO's compressed counts: 5 bits a character from '0' on, 32 = more follows; from the third on, differences."""
    data = counts.encode("ascii") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        part = byte - 48
        value |= (part & 31) << shift
        shift += 5
        if part & 32:
            continue
        if part & 16:
            value -= 1 << shift  # the sign bit of the last character
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return np.array(runs, np.int64)


def fill_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """Union of polygons [x0, y0, x1, y1, ...] in pixels -> bool [H, W]: pixels whose centre is inside (even-odd)."""
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        if len(points) > 2:
            _fill(mask, points)
    return mask


def _fill(mask: np.ndarray, points: np.ndarray) -> None:
    """Add one polygon [P, 2] to mask [H, W]: an edge flips every pixel right of where it crosses a row's centres."""
    height, width = mask.shape
    bounds = np.clip(
        np.ceil(np.stack([points.min(0), points.max(0)]) - 0.5), 0, (width, height)
    ).astype(np.int64)
    (left, top), (right, bottom) = bounds  # only this box of the mask can be inside
    edges = np.stack([points, np.roll(points, -1, axis=0)])  # [2, P, xy]
    low, high = np.clip(np.ceil(np.sort(edges[..., 1], axis=0) - 0.5), top, bottom).astype(
        np.int64
    )  # rows, [P] each
    crossed = high - low
    edge = np.repeat(np.arange(len(points)), crossed)  # one entry for each row that an edge crosses
    rows = np.arange(len(edge)) - np.repeat(crossed.cumsum() - crossed, crossed) + low[edge]
    (x0, y0), (x1, y1) = edges[0, edge].T, edges[1, edge].T
    columns = np.clip(
        np.ceil(x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0) - 0.5), left, right
    ).astype(np.int64)
    wide = right - left + 1
    flips = np.bincount((rows - top) * wide + columns - left, minlength=(bottom - top) * wide)
    mask[top:bottom, left:right] |= flips.reshape(-1, wide)[:, :-1].cumsum(1) % 2 == 1
