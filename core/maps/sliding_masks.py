"""`Backbone.masks` of every sliding window, averaged where windows overlap.

For what happens inside a window at its full size: PAMR there, and TCL's knowledge prior.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbones.base import Backbone
from .sliding import WINDOWS, Layer, Merged
from .views import Prepared, Span, Views
from .windows import bilinear, coverage

# Soft masks of windows in memory at a time, at full size (268 MB).
MASK_VALUES = 2**26


class Window(NamedTuple):
    """A window of a scaled image, mirrored or not."""

    rows: Span
    cols: Span
    mirrored: bool


@dataclass(frozen=True)
class MaskSettings:
    """What `Backbone.masks` does inside a window: PAMR, and the share of the knowledge prior."""

    pamr: bool
    kp_weight: float


@torch.no_grad()
def merge_masks(
    backbone: Backbone,
    prepared: Prepared,
    text: Tensor,
    views: Views,
    settings: MaskSettings,
    batch: int = WINDOWS,
) -> Merged:
    """Soft masks of all windows of an image for text embeddings [N, D], averaged.

    prepared: of these `views`. batch: windows per forward pass, fewer where masks are large.
    """
    layers = []
    for scaled in prepared.scaled:
        image = backbone.normalize(scaled[None])[0]
        maps = _average(backbone, image, text, views, settings, batch)
        sizes = zip(prepared.size, image.shape[-2:], strict=True)
        rows, cols = (bilinear(*lengths).float().to(maps.device) for lengths in sizes)
        layers.append(Layer(maps, rows, cols))
    return Merged(layers, prepared.size)


def _average(
    backbone: Backbone,
    image: Tensor,
    text: Tensor,
    views: Views,
    settings: MaskSettings,
    batch: int,
) -> Tensor:
    """Masks of a normalized image [3, h, w]: [N, h, w] in [0, 1]."""
    height, width = image.shape[-2:]
    rows, cols = views.spans(height), views.spans(width)
    flips = (False, True) if views.hflip else (False,)
    windows = [Window(*one) for one in itertools.product(rows, cols, flips)]
    values = len(text) * (rows[0][1] - rows[0][0]) * (cols[0][1] - cols[0][0])
    step = max(1, min(batch, MASK_VALUES // values))
    total = torch.zeros(len(text), height, width, device=backbone.device)
    for start in range(0, len(windows), step):
        some = windows[start : start + step]
        crops = torch.stack(list(_crops(image, some)))
        masks = backbone.masks(crops, text, pamr=settings.pamr, kp_weight=settings.kp_weight)
        _add(total, masks, some)
    count = coverage(rows, height)[:, None] * coverage(cols, width) * len(flips)
    return total.div_(count.float().to(total.device))


def _crops(image: Tensor, windows: Sequence[Window]) -> Iterator[Tensor]:
    """Each window of an image [3, H, W]: [3, h, w]."""
    for window in windows:
        crop = image[:, slice(*window.rows), slice(*window.cols)]
        yield crop.flip(-1) if window.mirrored else crop


def _add(total: Tensor, masks: Tensor, windows: Sequence[Window]) -> None:
    """Add the masks [b, N, h, w] of windows to `total` [N, H, W] where they lie."""
    for window, mask in zip(windows, masks, strict=True):
        upright = mask.flip(-1) if window.mirrored else mask
        total[:, slice(*window.rows), slice(*window.cols)] += upright
