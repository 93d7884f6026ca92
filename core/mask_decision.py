"""From averaged maps to a label map: what cannot win is dropped, the rest is refined, the best class takes the pixel.

Pruning cannot change the result: resizing and PAMR only average (weights positive, summing to 1, classes not mixed),
so a class never rises above its own maximum. With a background threshold, or where some class is higher everywhere
than another's maximum, that class cannot win and is neither resized nor refined. The CRF lets classes compete: nothing
is dropped there; nor with a softmax, whose sum runs over all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.inference import Merged, Picture
from core.mask_protocol import MaskProtocol
from core.pamr import PAMR

CHUNK_VALUES = 2**24  # values of maps at the picture's size in memory at a time (67 MB)
PAMR_PIXELS = 2**22  # pixels refined at a time: PAMR holds 48 weights for each (805 MB)
MARGIN = 1e-5  # more than rounding moves a map
SCORE_FLOOR = 0.01  # saved maps leave out classes that nowhere exceed this: lower thresholds are of no use


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
    """Soft maps of the kept classes at the picture's size, before the background rule: float16 [n, H, W], int [n]."""

    maps: np.ndarray
    classes: np.ndarray


@torch.no_grad()
def decide(merged: Merged, picture: Picture, used: MaskProtocol, *, prune: bool = True,
           scores: bool = False) -> tuple[np.ndarray, Scores | None]:
    """Index of the winning class at every pixel, int16 [H, W], -1 for none; and the soft maps, with `scores`.

    used: resolved protocol. prune=False keeps every class to the end, for checking that pruning changes nothing.
    """
    floor = -1.0
    if prune and used.mapping == "sigmoid" and not used.crf:
        floor = float(merged.lowest.max())  # some class is at least this everywhere
        if used.rule == "threshold":
            floor = max(floor, used.bg)
        floor = min(floor, SCORE_FLOOR) if scores else floor
    chunks = _refined(merged, picture, used, floor - MARGIN)
    keep = _Kept() if scores else None
    index = _crf_labels(chunks, picture, used, keep) if used.crf else _best_class(chunks, merged, used, keep)
    return index.to(torch.int16).cpu().numpy(), keep.result(picture.size) if keep else None


class _Kept:
    """Collects soft maps on their way."""

    def __init__(self) -> None:
        self.maps, self.classes = [], []

    def add(self, classes: Sequence[int], maps: Tensor) -> None:
        self.classes += classes
        self.maps.append(maps.cpu())

    def scale(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply `change` to every stored map."""
        self.maps = [change(maps) for maps in self.maps]

    def result(self, size: tuple[int, int]) -> Scores:
        maps = torch.cat(self.maps).half().numpy() if self.maps else np.zeros((0, *size), np.float16)
        return Scores(maps, np.asarray(self.classes, np.int16))


Chunk = tuple[list[int], Tensor]  # class indices, ascending, and their maps [n, H, W]


def _refined(merged: Merged, picture: Picture, used: MaskProtocol, floor: float) -> Iterator[Chunk]:
    """Maps at the picture's size of the classes that exceed `floor` somewhere, refined by PAMR where it acts there."""
    refine = PictureRefiner(picture) if used.pamr and used.pamr_at == "picture" else None
    classes = (merged.highest > floor).nonzero()[:, 0].tolist()
    step = max(1, CHUNK_VALUES // (picture.size[0] * picture.size[1]))
    for start in range(0, len(classes), step):
        some = classes[start : start + step]
        maps = merged.at_picture(some)
        left = (maps.flatten(1).amax(1) > floor).nonzero()[:, 0]  # the bound above is loose, this one is exact
        if len(left) < len(some):
            some, maps = [some[i] for i in left.tolist()], maps[left]
        if some:
            yield some, refine(maps) if refine else maps


def _best_class(chunks: Iterator[Chunk], merged: Merged, used: MaskProtocol, keep: _Kept | None) -> Tensor:
    """Index of the best class at every pixel, the first of equals, int64 [H, W]; -1 where the background wins."""
    device, soft = merged.highest.device, used.mapping == "softmax"
    best = torch.full(merged.size, -torch.inf, device=device)
    index = torch.full(merged.size, -1, device=device)
    total = torch.full(merged.size, -torch.inf, device=device)  # log of the softmax's sum
    for classes, maps in chunks:
        maps = maps * used.scale if soft else maps
        high, at = maps.max(0)
        better = high > best
        best = torch.where(better, high, best)
        index = torch.where(better, torch.as_tensor(classes, device=device)[at], index)
        if soft:
            total = torch.logaddexp(total, maps.logsumexp(0))
        if keep:
            keep.add(classes, maps)
    if soft:
        best = (best - total).exp()
        if keep:
            keep.scale(lambda maps: (maps - total.cpu()).exp())
    if used.rule == "threshold":
        index = torch.where(best > used.bg, index, -1)
    return index


def _crf_labels(chunks: Iterator[Chunk], picture: Picture, used: MaskProtocol, keep: _Kept | None) -> Tensor:
    """Labels by the dense CRF; the background competes as a constant map of the threshold."""
    from core.crf import dense_crf

    classes, maps = [], []
    for some, more in chunks:
        classes += some
        maps.append(more)
        if keep:
            keep.add(some, more)
    maps = torch.cat(maps)
    if used.rule == "threshold":
        maps = torch.cat([torch.full_like(maps[:1], used.bg), maps])
        classes = [-1, *classes]
    if len(maps) == 1:  # nothing to compete with
        return torch.full(picture.size, classes[0])
    return torch.tensor(classes)[dense_crf(picture.pixels, maps).argmax(0).cpu()]


class PictureRefiner:
    """PAMR at the picture's size, in strips where the picture is large: same result, bounded memory.

    After i iterations a value depends on pixels up to i times the largest dilation away, and on nothing else: a strip
    with that much around it gives its own rows exactly.
    """

    def __init__(self, picture: Picture, pixels: int = PAMR_PIXELS) -> None:
        """pixels: in one strip, what surrounds it counted where the picture is wide enough to allow it."""
        self._pamr = PAMR()
        self._halo = self._pamr.num_iter * max(self._pamr.dilations)
        self._picture = picture
        height, width = picture.size
        rows = height if height * width <= pixels else max(64, pixels // width - 2 * self._halo)
        self._strips = [(y, min(y + rows, height)) for y in range(0, height, rows)]
        self._weights: Tensor | None = None

    def __call__(self, maps: Tensor) -> Tensor:
        """[n, H, W] -> [n, H, W], float32."""
        parts = [self._strip(maps, *strip) for strip in self._strips]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _strip(self, maps: Tensor, start: int, stop: int) -> Tensor:
        first, last = max(0, start - self._halo), min(maps.shape[1], stop + self._halo)
        weights = self._weights
        if weights is None:
            rows = torch.from_numpy(np.ascontiguousarray(self._picture.pixels[first:last]))
            weights = self._pamr.weights(rows.to(maps.device).permute(2, 0, 1)[None].float() / 255)
            if len(self._strips) == 1:  # weights depend on the picture alone: all classes share them
                self._weights = weights
        refined = self._pamr.refine(weights, maps[None, :, first:last])[0]
        return refined[:, start - first : stop - first]
