"""From averaged maps to a label map: the best class takes the pixel.

What cannot win is dropped first, the rest is refined (`core.masks.strips`). That cannot change the
result: resizing and PAMR only average (weights positive, summing to 1, classes not mixed), so a
class never rises above its own maximum. With a background threshold, or where some class is higher
everywhere than another's maximum, that class cannot win and is neither resized nor refined. The CRF
lets classes compete: nothing is dropped there; nor with a softmax, whose sum runs over all classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..maps.sliding import Merged
from ..refine.pamr import PAMR
from .protocol import MaskProtocol, known
from .strips import Chunk, Pixels, Strip, chunks_of, joined, strips_of

MARGIN = 1e-5  # more than rounding moves a map
NEVER = -2.0  # below every cosine
# Saved maps leave out classes that nowhere exceed this: lower thresholds are of no use.
SCORE_FLOOR = 0.01

Index = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Labels:
    """Which label value a class gets: `first` + its index; `background` where none is above."""

    first: int
    background: int

    def of(self, index: Index) -> npt.NDArray[np.uint8]:
        """Class indices [H, W], -1 for none -> label values uint8 [H, W]."""
        return np.where(index < 0, self.background, index + self.first).astype(np.uint8)


@dataclass(frozen=True)
class Scores:
    """Soft maps of the kept classes at the image's size, before the background rule.

    maps: float16 [n, H, W]; classes: their indices, int16 [n].
    """

    maps: npt.NDArray[np.float16]
    classes: Index


@torch.no_grad()
def decide(
    merged: Merged,
    pixels: Pixels,
    used: MaskProtocol,
    *,
    prune: bool = True,
    scores: bool = False,
    pamr: PAMR | None = None,
) -> tuple[Index, Scores | None]:
    """Index of the winning class at every pixel, int16 [H, W], -1 for none.

    Also the soft maps, with `scores`.
    pixels: the image, uint8 [H, W, 3]. used: resolved protocol. prune=False keeps every class to
    the end, for checking that pruning changes nothing. pamr: the job's own, which knows how many
    images there are and so how to refine them; None for a single one.
    """
    floor = _floor(merged, used, scores) if prune else NEVER
    classes = (merged.highest > floor - MARGIN).nonzero()[:, 0].tolist()
    strips = strips_of(merged.size, used)
    # The bound above is loose. That of a strip is exact, but saved maps need the same classes in
    # all strips.
    exact = floor - MARGIN if len(strips) == 1 or not scores else None
    refiner = (pamr or PAMR()) if used.by_image else None
    indices, kept = [], []
    for strip in strips:
        chunks: Iterable[Chunk] = chunks_of(merged, pixels, refiner, classes, strip, exact)
        if scores or used.crf:  # looked at twice
            chunks = list(chunks)
        index, total = _winners(chunks, pixels, strip, merged, used)
        indices.append(index.to(torch.int16).cpu().numpy())
        if scores:
            size = (strip.stop - strip.start, merged.size[1])
            kept.append(_scores(chunks, total, used, size))
    whole: Index = np.concatenate(indices)
    if not scores:
        return whole, None
    return whole, Scores(np.concatenate([s.maps for s in kept], 1), kept[0].classes)


@torch.no_grad()
def above_each(
    merged: Merged, pixels: Pixels, used: MaskProtocol, pamr: PAMR | None = None
) -> npt.NDArray[np.bool_]:
    """Where each of N classes alone is above the background threshold: bool [N, H, W].

    Their union is where `decide` finds a class. used: resolved protocol with soft masks and without
    the CRF, in which classes compete; pixels, pamr: see `decide`.
    """
    cut = known(used.background_threshold)
    above = np.zeros((len(merged.highest), *merged.size), bool)
    classes = (merged.highest > cut - MARGIN).nonzero()[:, 0].tolist()
    refiner = (pamr or PAMR()) if used.by_image else None
    for strip in strips_of(merged.size, used) if classes else ():
        chunks = chunks_of(merged, pixels, refiner, classes, strip, cut - MARGIN)
        for some, maps in chunks:
            above[some, strip.start : strip.stop] = (maps > cut).cpu().numpy()
    return above


def _floor(merged: Merged, used: MaskProtocol, scores: bool) -> float:
    """What a class must exceed somewhere to win a pixel (or to be saved, with `scores`)."""
    if used.mapping != "sigmoid" or used.crf:
        return NEVER
    floor = float(merged.lowest.max())  # some class is at least this everywhere
    if used.rule == "threshold":
        floor = max(floor, known(used.background_threshold))
    return min(floor, SCORE_FLOOR) if scores else floor


def _winners(
    chunks: Iterable[Chunk], pixels: Pixels, strip: Strip, merged: Merged, used: MaskProtocol
) -> tuple[Tensor, Tensor | None]:
    """Index of the winning class in a strip [R, W], and what `_best_class` gives with it."""
    if used.crf:
        return _crf_labels(list(chunks), pixels, used), None
    return _best_class(chunks, strip, merged, used)


def _best_class(
    chunks: Iterable[Chunk], strip: Strip, merged: Merged, used: MaskProtocol
) -> tuple[Tensor, Tensor | None]:
    """Index of the best class at every pixel: int64 [R, W].

    The first of equals, -1 where the background wins. Also the logarithm of the sum of the softmax
    [R, W], for protocols that have one.
    """
    size, device = (strip.stop - strip.start, merged.size[1]), merged.highest.device
    best = torch.full(size, -torch.inf, device=device)
    index = torch.full(size, -1, device=device)
    total = torch.full(size, -torch.inf, device=device) if used.mapping == "softmax" else None
    for classes, maps in chunks:
        if total is not None:
            maps = maps * known(used.scale)
            total = torch.logaddexp(total, maps.logsumexp(0))
        high, at = maps.max(0)
        better = high > best
        best = torch.where(better, high, best)
        index = torch.where(better, torch.as_tensor(classes, device=device)[at], index)
    if used.rule == "threshold":
        sure = best if total is None else (best - total).exp()
        index = torch.where(sure > known(used.background_threshold), index, -1)
    return index, total


def _crf_labels(chunks: Sequence[Chunk], pixels: Pixels, used: MaskProtocol) -> Tensor:
    """Labels [H, W] by the dense CRF; the background competes as a constant map of its threshold.

    pixels: the image, uint8 [H, W, 3].
    """
    from ..refine.crf import dense_crf

    classes, maps = joined(chunks)
    if used.rule == "threshold":
        constant = torch.full_like(maps[:1], known(used.background_threshold))
        maps, classes = torch.cat([constant, maps]), [-1, *classes]
    if len(maps) == 1:  # nothing to compete with
        return torch.full(pixels.shape[:2], classes[0])
    return torch.tensor(classes)[dense_crf(pixels, maps).argmax(0).cpu()]


def _scores(
    chunks: Iterable[Chunk], total: Tensor | None, used: MaskProtocol, size: tuple[int, int]
) -> Scores:
    """The maps of a strip of `size` = (R, W) as they are saved; with a softmax, probabilities."""
    classes: list[int] = []
    maps = [torch.zeros(0, *size)]
    for some, of_them in chunks:
        if total is not None:
            of_them = (of_them * known(used.scale) - total).exp()
        classes += some
        maps.append(of_them.cpu())
    values: npt.NDArray[np.float16] = torch.cat(maps).half().numpy()
    return Scores(values, np.asarray(classes, np.int16))
