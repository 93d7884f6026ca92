"""The similarity map: the cosine of every pixel with every text, at inference and in training."""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_maps(pixels: Tensor, text: Tensor) -> Tensor:
    """Similarity maps of embeddings that are normalized already; gradient flows.

    pixels [B, D, h, w] and text [N, D], or text [B, N, D] for N texts of its own for each image,
    vectors over D of unit length. Returns [B, N, h, w] in [-1, 1]. Source: TTD, S = <V_xy, w>.
    """
    if text.ndim == 2:
        return torch.einsum("bdhw,nd->bnhw", pixels, text)
    return torch.einsum("bdhw,bnd->bnhw", pixels, text)
