"""From averaged maps to a label map: what cannot win is dropped, the rest is refined, the best class takes the pixel.

Pruning cannot change the result: resizing and PAMR only average (weights positive, summing to 1,
classes not mixed), so a class never rises above its own maximum. With a background threshold, or
where some class is higher everywhere than another's maximum, that class cannot win and is neither
resized nor refined. The CRF lets classes compete: nothing is dropped there; nor with a softmax,
whose sum runs over all classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..maps.sliding import Merged, Picture
from ..refine.pamr import PAMR
from .protocol import MaskProtocol

STRIP_PIXELS = 2**22  # of the image at a time: PAMR holds 48 weights for each (805 MB)
CHUNK_VALUES = 2**24  # values of maps at the image's size in memory at a time (67 MB)
MARGIN = 1e-5  # more than rounding moves a map
SCORE_FLOOR = (
    0.01  # saved maps leave out classes that nowhere exceed this: lower thresholds are of no use
)


@dataclass(frozen=True)
class Labels:
    """Which label value a class gets: `first` + its index; `background` where no class exceeds the threshold."""

    first: int
    background: int

    def of(self, index: np.ndarray) -> np.ndarray:
        """Class indices [H, W], -1 for none -> label values uint8 [H, W]."""
        return np.where(index < 0, self.background, index + self.first).astype(np.uint8)


@dataclass(frozen=True)
class Scores:
    """Soft maps of the kept classes at the image's size, before the background rule: float16 [n, H, W], int [n]."""

    maps: np.ndarray
    classes: np.ndarray


@torch.no_grad()
def decide(
    merged: Merged,
    picture: Picture,
    used: MaskProtocol,
    *,
    prune: bool = True,
    scores: bool = False,
    pamr: PAMR | None = None,
) -> tuple[np.ndarray, Scores | None]:
    """Index of the winning class at every pixel, int16 [H, W], -1 for none; and the soft maps, with `scores`.

    used: resolved protocol. prune=False keeps every class to the end, for checking that pruning
    changes nothing.
    pamr: the job's own, which knows how many images there are and so how to refine them; None for
    a single one.
    """
    pamr = pamr or PAMR()
    floor = -2.0  # below every cosine
    if prune and used.mapping == "sigmoid" and not used.crf:
        floor = float(merged.lowest.max())  # some class is at least this everywhere
        if used.rule == "threshold":
            floor = max(floor, used.background_threshold)
        floor = min(floor, SCORE_FLOOR) if scores else floor
    classes = (merged.highest > floor - MARGIN).nonzero()[:, 0].tolist()
    strips = strips_of(merged.size, used)
    indices, kept = [], []
    for strip in strips:
        # The bound above is loose. That of a strip is exact, but saved maps need the same classes
        # in all strips.
        exact = floor - MARGIN if len(strips) == 1 or not scores else None
        chunks = _chunks(merged, picture, pamr if refines(used) else None, classes, strip, exact)
        chunks = list(chunks) if scores or used.crf else chunks
        index, total = (
            _crf_labels(chunks, picture, used)
            if used.crf
            else _best_class(chunks, strip, merged, used)
        )
        indices.append(index.to(torch.int16).cpu().numpy())
        if scores:
            kept.append(_scores(chunks, total, used, (strip.stop - strip.start, merged.size[1])))
    whole = np.concatenate(indices)
    return whole, Scores(
        np.concatenate([s.maps for s in kept], 1), kept[0].classes
    ) if scores else None


@dataclass(frozen=True)
class Strip:
    """Rows `start` to `stop` of an image, and `first` to `last` that must be refined to get them right."""

    start: int
    stop: int
    first: int
    last: int


def strips_of(size: tuple[int, int], used: MaskProtocol) -> list[Strip]:
    """The strips in which an image is worked on, mostly one: together they give what it would give at once.

    After i iterations of PAMR a value depends on pixels up to i times the largest dilation away,
    and on nothing else.
    """
    height, width = size
    if used.crf or height * width <= STRIP_PIXELS:
        return [Strip(0, height, 0, height)]
    pamr = PAMR()
    halo = pamr.num_iter * max(pamr.dilations) if refines(used) else 0
    rows = max(64, STRIP_PIXELS // width - 2 * halo)
    return [
        Strip(y, min(y + rows, height), max(0, y - halo), min(height, y + rows + halo))
        for y in range(0, height, rows)
    ]


def refines(used: MaskProtocol) -> bool:
    """Whether PAMR acts on the merged maps."""
    return used.pamr and used.pamr_at == "picture"


Chunk = tuple[list[int], Tensor]  # class indices, ascending, and their maps [n, R, W] of a strip


def _chunks(
    merged: Merged,
    picture: Picture,
    pamr: PAMR | None,
    classes: list[int],
    strip: Strip,
    floor: float | None,
) -> Iterator[Chunk]:
    """Maps of a strip, refined with `pamr`, some classes at a time; without those that nowhere exceed `floor` in it."""
    rows = slice(strip.first, strip.last)
    weights = None
    for some, maps in _full_chunks(merged, classes, rows, floor):
        if pamr is not None:
            if weights is None:  # they depend on the image alone: all classes share them
                image = torch.from_numpy(np.array(picture.pixels[rows])).to(maps.device)
                weights = pamr.weights(image.permute(2, 0, 1)[None].float() / 255, len(some))
            maps = pamr.refine(weights, maps[None])[0]
        yield some, maps[:, strip.start - strip.first : strip.stop - strip.first]


def _full_chunks(
    merged: Merged, classes: list[int], rows: slice, floor: float | None
) -> Iterator[Chunk]:
    """Maps of these rows above `floor`, as many classes at a time as CHUNK_VALUES allows: PAMR likes them together."""
    step = max(1, CHUNK_VALUES // ((rows.stop - rows.start) * merged.size[1]))
    kept: list[Chunk] = []
    for start in range(0, len(classes), step):
        some = classes[start : start + step]
        maps = merged.at_picture(some, rows)
        if floor is not None:
            left = (maps.flatten(1).amax(1) > floor).nonzero()[:, 0].tolist()
            some, maps = [some[i] for i in left], maps[left] if len(left) < len(some) else maps
        if kept and sum(len(names) for names, _ in kept) + len(some) > step:
            yield _joined(kept)
            kept = []
        if some:
            kept.append((some, maps))
    if kept:
        yield _joined(kept)


def _joined(chunks: list[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    return [name for names, _ in chunks for name in names], torch.cat([maps for _, maps in chunks])


def _best_class(
    chunks: Iterable[Chunk], strip: Strip, merged: Merged, used: MaskProtocol
) -> tuple[Tensor, Tensor]:
    """Index of the best class at every pixel, the first of equals, -1 where the background wins: int64 [R, W].

    Also the logarithm of the sum of the softmax [R, W], for protocols that have one.
    """
    size, device, soft = (
        (strip.stop - strip.start, merged.size[1]),
        merged.highest.device,
        used.mapping == "softmax",
    )
    best = torch.full(size, -torch.inf, device=device)
    index = torch.full(size, -1, device=device)
    total = torch.full(size, -torch.inf, device=device)
    for classes, maps in chunks:
        maps = maps * used.scale if soft else maps
        high, at = maps.max(0)
        better = high > best
        best = torch.where(better, high, best)
        index = torch.where(better, torch.as_tensor(classes, device=device)[at], index)
        if soft:
            total = torch.logaddexp(total, maps.logsumexp(0))
    if used.rule == "threshold":
        index = torch.where(
            ((best - total).exp() if soft else best) > used.background_threshold, index, -1
        )
    return index, total


def _crf_labels(chunks: list[Chunk], picture: Picture, used: MaskProtocol) -> tuple[Tensor, None]:
    """Labels by the dense CRF; the background competes as a constant map of the threshold."""
    from ..refine.crf import dense_crf

    classes = [number for some, _ in chunks for number in some]
    maps = torch.cat([maps for _, maps in chunks])
    if used.rule == "threshold":
        maps = torch.cat([torch.full_like(maps[:1], used.background_threshold), maps])
        classes = [-1, *classes]
    if len(maps) == 1:  # nothing to compete with
        return torch.full(picture.size, classes[0]), None
    return torch.tensor(classes)[dense_crf(picture.pixels, maps).argmax(0).cpu()], None


def _scores(
    chunks: list[Chunk], total: Tensor | None, used: MaskProtocol, size: tuple[int, int]
) -> Scores:
    """The maps of a strip as they are saved; with a softmax, its probabilities."""
    maps = torch.cat([maps for _, maps in chunks]) if chunks else torch.zeros(0, *size)
    if used.mapping == "softmax":
        maps = (maps * used.scale - total).exp()
    classes = [number for some, _ in chunks for number in some]
    return Scores(maps.half().cpu().numpy(), np.asarray(classes, np.int16))
