"""Masks from tags as the papers describe them: the reference of `bench_masks.py`.

Every scale, window and flip by itself; the soft masks of all classes resized to the window, pasted
and averaged, then resized to the image; PAMR in its published form on all classes; background
where no class exceeds the threshold. Nothing is batched, pruned or folded together, and TCL's
decoder convolves the upsampled map itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import reference_pamr
import torch
import torch.nn.functional as F
from torch import Tensor

from core.backbones.base import Backbone
from core.backbones.heads import HEADS
from core.backbones.tcl.model import Masker
from core.backbones.towers import to_map
from core.maps.resize import resized_tensor
from core.maps.views import window_spans
from core.masks.protocol import MaskProtocol

PAMR_CLASSES = 8  # at once, for memory's sake; classes do not mix
PAMR_ITERATIONS = 10


@torch.no_grad()
def window_masks(backbone: Backbone, crop: Tensor, text: Tensor) -> Tensor:
    """Soft masks [N, h, w] of one normalized window [1, 3, h, w] for text embeddings [N, D]."""
    if not hasattr(backbone, "masker"):
        return backbone.masks(crop, text)[0]
    padded, (top, left) = backbone.pad(crop)
    grid = (padded.shape[2] // backbone.patch, padded.shape[3] // backbone.patch)
    blocks = len(backbone.visual.blocks) - len(backbone.masker.blocks)
    pixels = decode(backbone.masker, backbone.visual.before_block(padded, blocks)[0], grid)
    soft = backbone.soft_mask(backbone.similarity(pixels, text))
    soft = F.interpolate(soft, size=padded.shape[-2:], mode="bilinear")
    return soft[0, :, top : top + crop.shape[-2], left : left + crop.shape[-1]]


def decode(masker: Masker, tap: Tensor, grid: tuple[int, int]) -> Tensor:
    """TCL's masker as published: tokens [B, 1+h*w, C] -> pixel embeddings [B, D, 4h, 4w]."""
    for block in masker.blocks[:-1]:
        tap = block(tap)
    x = to_map(HEADS["maskclip"](masker.blocks[-1], tap, grid, 1)[:, 1:], grid)
    for stage in masker.stages:
        x = stage.conv2(stage.conv(F.interpolate(x, scale_factor=2, mode="nearest")))
    return (masker.ln(x.permute(0, 2, 3, 1)) @ masker.proj).permute(0, 3, 1, 2)


def scale_masks(
    backbone: Backbone,
    scaled: Tensor,
    text: Tensor,
    used: MaskProtocol,
    masks_of: Callable[..., Tensor] = window_masks,
) -> Tensor:
    """Averaged soft masks [N, H, W] of one scaled image [3, H, W] in [0, 1], windows one by one."""
    image = backbone.normalize(scaled[None])
    summed = torch.zeros(len(text), *scaled.shape[1:], device=image.device)
    count = torch.zeros(scaled.shape[1:], device=image.device)
    for top, bottom in window_spans(scaled.shape[1], used.side, used.step):
        for left, right in window_spans(scaled.shape[2], used.side, used.step):
            crop = image[..., top:bottom, left:right]
            mask = masks_of(backbone, crop, text)
            if used.hflip:
                mask = (mask + masks_of(backbone, crop.flip(-1), text).flip(-1)) / 2
            summed[:, top:bottom, left:right] += mask
            count[top:bottom, left:right] += 1
    return summed / count


def soft_masks(
    backbone: Backbone,
    pixels: np.ndarray,
    text: Tensor,
    used: MaskProtocol,
    masks_of: Callable[..., Tensor] = window_masks,
) -> Tensor:
    """Soft masks [N, H, W] of an image uint8 [H, W, 3], averaged over scales."""
    total = torch.zeros(len(text), *pixels.shape[:2], device=backbone.device)
    for scale in used.scales:
        scaled = resized_tensor(pixels, max(1, round(used.image * scale)))
        maps = scale_masks(backbone, scaled, text, used, masks_of)
        total += F.interpolate(maps[None], size=pixels.shape[:2], mode="bilinear")[0]
    return total / len(used.scales)


def refine(
    pixels: np.ndarray,
    maps: Tensor,
    weights: Callable[[Tensor], Tensor] = reference_pamr.weights,
    iterate: Callable[..., Tensor] = reference_pamr.iterate,
) -> Tensor:
    """PAMR's published form on maps [N, H, W] of an image uint8 [H, W, 3]."""
    alpha = weights(torch.from_numpy(pixels).to(maps.device).permute(2, 0, 1)[None].float() / 255)
    refined = []
    for some in maps[None].split(PAMR_CLASSES, 1):
        for _ in range(PAMR_ITERATIONS):
            some = iterate(alpha, some, 1)
        refined.append(some)
    return torch.cat(refined, 1)[0]


def label_map(maps: Tensor, background_threshold: float) -> Tensor:
    """Soft masks [N, H, W] -> index of the best class, -1 where none exceeds `bg`: [H, W]."""
    best, index = maps.max(0)
    return torch.where(best > background_threshold, index, -1)


@torch.no_grad()
def masks_from_tags(
    backbone: Backbone, pixels: np.ndarray, text: Tensor, used: MaskProtocol
) -> Tensor:
    """Image uint8 [H, W, 3] and text embeddings [N, D] -> class indices [H, W], -1: background."""
    maps = soft_masks(backbone, pixels, text, used)
    return label_map(refine(pixels, maps) if used.pamr else maps, used.background_threshold)
