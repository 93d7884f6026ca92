"""Maps of an image at its own size, a strip of rows and some classes at a time: bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..maps.sliding import Merged
from ..refine.pamr import PAMR
from .protocol import MaskProtocol

STRIP_PIXELS = 2**22  # of the image at a time: PAMR holds 48 weights for each (805 MB)
CHUNK_VALUES = 2**24  # values of maps at the image's size in memory at a time (67 MB)

Pixels = npt.NDArray[np.uint8]
Chunk = tuple[list[int], Tensor]  # class indices, ascending, and their maps [n, R, W] of a strip


@dataclass(frozen=True)
class Strip:
    """Rows `start` to `stop` of an image, which need `first` to `last` to be refined right."""

    start: int
    stop: int
    first: int
    last: int


def strips_of(size: tuple[int, int], used: MaskProtocol) -> list[Strip]:
    """The strips in which an image of (H, W) pixels is worked on, mostly one.

    Together they give what it would give at once: after i iterations of PAMR a value depends on
    pixels up to i times the largest dilation away, and on nothing else.
    """
    height, width = size
    if used.crf or height * width <= STRIP_PIXELS:
        return [Strip(0, height, 0, height)]
    pamr = PAMR()
    halo = pamr.num_iter * max(pamr.dilations) if used.by_image else 0
    rows = max(64, STRIP_PIXELS // width - 2 * halo)
    return [
        Strip(y, min(y + rows, height), max(0, y - halo), min(height, y + rows + halo))
        for y in range(0, height, rows)
    ]


def chunks_of(
    merged: Merged,
    pixels: Pixels,
    pamr: PAMR | None,
    classes: Sequence[int],
    strip: Strip,
    floor: float | None,
) -> Iterator[Chunk]:
    """Maps of a strip, refined with `pamr` along the image uint8 [H, W, 3], some classes at a time.

    Without those that nowhere exceed `floor` in it.
    """
    rows = slice(strip.first, strip.last)
    inner = slice(strip.start - strip.first, strip.stop - strip.first)
    weights = None
    for some, maps in _full_chunks(merged, classes, rows, floor):
        if pamr is not None:
            if weights is None:  # they depend on the image alone: all classes share them
                image = torch.from_numpy(np.array(pixels[rows])).to(maps.device)
                weights = pamr.weights(image.permute(2, 0, 1)[None].float() / 255, len(some))
            maps = pamr.refine(weights, maps[None])[0]
        yield some, maps[:, inner]


def _full_chunks(
    merged: Merged, classes: Sequence[int], rows: slice, floor: float | None
) -> Iterator[Chunk]:
    """Maps of these rows above `floor`, as many classes at a time as CHUNK_VALUES allows.

    PAMR is faster on many together, so what is left of several chunks is joined.
    """
    step = max(1, CHUNK_VALUES // ((rows.stop - rows.start) * merged.size[1]))
    kept: list[Chunk] = []
    count = 0
    for start in range(0, len(classes), step):
        some, maps = _above(merged, list(classes[start : start + step]), rows, floor)
        if kept and count + len(some) > step:
            yield joined(kept)
            kept, count = [], 0
        if some:
            kept.append((some, maps))
            count += len(some)
    if kept:
        yield joined(kept)


def _above(merged: Merged, classes: list[int], rows: slice, floor: float | None) -> Chunk:
    """Maps of these rows of the classes that exceed `floor` somewhere in them; None keeps all."""
    maps = merged.at_image_size(classes, rows)
    if floor is None:
        return classes, maps
    left = (maps.flatten(1).amax(1) > floor).nonzero()[:, 0].tolist()
    if len(left) == len(classes):
        return classes, maps
    return [classes[i] for i in left], maps[left]


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Several chunks of one strip as one: classes, and maps [n, R, W]."""
    if len(chunks) == 1:
        return chunks[0]
    classes = itertools.chain.from_iterable(some for some, _ in chunks)
    return list(classes), torch.cat([maps for _, maps in chunks])
