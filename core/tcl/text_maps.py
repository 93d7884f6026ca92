"""What the loss needs of B x N masks, without ever holding them: texts in chunks, recomputed.

[B, N, h, w] of the published recipe is 822 MB in float32 per tensor, and a plain graph keeps ten
of them. Here every chunk of texts is reduced to three numbers per image and text; its maps are
made again in the backward pass, so values and gradients are exact.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..backbones.base import EPS
from ..backbones.layers import at_least_float32
from .losses import pool, variation_of_maps

BUDGET = 2**22  # values of one map tensor of a chunk: 16 MB in float32


class TextMaps(NamedTuple):
    """Of every image and text, [B, N] each.

    agreement: <p[i, j], t_j>, the image pooled by the text's mask with the text; area: mean of
    the mask; variation: its total variation.
    """

    agreement: Tensor
    area: Tensor
    variation: Tensor


def text_maps(
    pixels: Tensor,
    lengths: Tensor,
    texts: Tensor,
    sim2mask: tuple[Tensor, Tensor],
    chunk: int | None = None,
) -> TextMaps:
    """`TextMaps` of the masks sigmoid(w s + b), s the cosine of pixel and text.

    Args:
        pixels: e [B, D, h, w], not normalized; lengths: |e| of `lengths_of`, [B, 1, h, w].
        texts: [N, D] of unit length.
        sim2mask: the learned w and b.
        chunk: texts at a time; None: as many as `BUDGET` allows; 0: all at once, with their graph.
    """
    size = chunk_size(pixels, len(texts), chunk)
    if chunk == 0 or not torch.is_grad_enabled():
        parts = [_maps(pixels, lengths, part, *sim2mask) for part in torch.split(texts, size)]
    else:
        parts = [
            checkpoint(_maps, pixels, lengths, part, *sim2mask, use_reentrant=False)
            for part in torch.split(texts, size)
        ]
    return TextMaps(*(torch.cat(columns, dim=1) for columns in zip(*parts, strict=True)))


def chunk_size(pixels: Tensor, texts: int, chunk: int | None) -> int:
    """Texts of one chunk for pixels [B, D, h, w]: `chunk`, all for 0, what `BUDGET` allows."""
    if chunk is None:
        chunk = max(1, BUDGET // (len(pixels) * pixels.shape[-2] * pixels.shape[-1]))
    return min(chunk or texts, texts)


def lengths_of(pixels: Tensor) -> Tensor:
    """max(|e|, 1e-6) of pixels e [B, D, h, w] -> [B, 1, h, w]."""
    lengths: Tensor = torch.linalg.vector_norm(at_least_float32(pixels), dim=1, keepdim=True)
    return lengths.clamp_min(EPS)


def mask_logits(pixels: Tensor, lengths: Tensor, texts: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """w s + b, s = <t, e> / |e|: pixels [B, D, h, w], unit texts [K, D] -> [B, K, h, w].

    The cosines are divided rather than the pixels: their gradient needs no second [B, D, h, w].
    """
    products = torch.matmul(texts, pixels.flatten(2))  # [B, K, h * w]
    cosines = at_least_float32(products).view(*products.shape[:2], *pixels.shape[-2:]) / lengths
    return w * cosines + b


def _maps(pixels: Tensor, lengths: Tensor, texts: Tensor, w: Tensor, b: Tensor) -> TextMaps:
    masks = torch.sigmoid(mask_logits(pixels, lengths, texts, w, b))
    agreement = (pool(pixels, masks) * texts).sum(-1)
    return TextMaps(agreement, masks.mean((-2, -1)), variation_of_maps(masks))
