"""Losses that several systems share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of L2-normalized [N, D] pairs, a scalar: CLIP (ICML 2021), figure 3.

    The mean of both cross-entropies of `scale * images @ texts.T`, where pair i belongs to pair i.
    """
    logits = scale * images @ texts.T  # [N, N]
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
