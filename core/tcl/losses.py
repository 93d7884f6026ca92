"""The terms of TCL's loss as pure functions of tensors (Cha et al., CVPR 2023, section 3).

Letters: B images of this process, N texts of all processes, D embedding, h w mask grid.
Every function returns the unweighted term; reductions are float32 or wider.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import EPS
from ..backbones.layers import at_least_float32

MAX_SCALE = 100.0  # upper bound of both temperatures


def total_variation(x: Tensor) -> Tensor:
    """TV(x) = mean |x[.., :, 1:] - x[.., :, :-1]| + mean |x[.., 1:, :] - x[.., :-1, :]|.

    x: [..., h, w]. Returns: a scalar. Source: the smoothness prior of the paper's section 3.3.
    """
    return variation_of_maps(x).mean()


def variation_of_maps(x: Tensor) -> Tensor:
    """`total_variation` of every map alone: [..., h, w] -> [...]; their mean is that of all."""
    x = at_least_float32(x)
    across = (x[..., :, 1:] - x[..., :, :-1]).abs().mean((-2, -1))
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean((-2, -1))
    return across + down


def area_loss(area: Tensor, target: float) -> Tensor:
    """| area - target |, `area` being the mean of soft masks in [0, 1], a scalar or [...]."""
    return (area - target).abs()


def temperature(logit_scale: Tensor) -> Tensor:
    """min(exp(logit_scale), 100): a learned scalar -> the factor of the cosines."""
    return logit_scale.exp().clamp(max=MAX_SCALE)


def info_nce(image_logits: Tensor, text_logits: Tensor, offset: int = 0) -> Tensor:
    """(CE(image_logits) + CE(text_logits)) / 2, row i's label being column offset + i.

    image_logits, text_logits: [B, N]; offset: rank * B. Returns: a scalar. Source: InfoNCE in
    both directions, as in CLIP.
    """
    labels = torch.arange(len(image_logits), device=image_logits.device) + offset
    across = F.cross_entropy(at_least_float32(image_logits), labels)
    return (across + F.cross_entropy(at_least_float32(text_logits), labels)) / 2


def image_level_loss(
    images: Tensor, texts: Tensor, own: slice, scale: Tensor, all_images: Tensor | None = None
) -> Tensor:
    """L_TCLi: InfoNCE of masked images through the frozen CLIP with their texts.

    Args:
        images: this process's image embeddings [B, D], of unit length.
        texts: the texts of all processes [N, D], of unit length.
        own: which of the N are this process's.
        scale: `temperature` of this loss.
        all_images: image embeddings of all processes [N, D]; None where there is one process.
    """
    others = images if all_images is None else all_images
    image_logits = scale * images @ texts.T  # [B, N]
    text_logits = scale * texts[own] @ others.T  # [B, N]
    return info_nce(image_logits, text_logits, own.start)


def feature_level_loss(
    agreement: Tensor, all_agreements: Tensor, own: slice, scale: Tensor
) -> Tensor:
    """L_TCLf: InfoNCE of masked-pooled features with texts.

    agreement[i, j] = <p[i, j], t_j>: image i pooled by the mask of text j, with text j. An image's
    logits are its row; a text's logits are its column, over the images of all processes.

    Args: agreement [B, N] of this process's images, all_agreements [N, N], own: this process's
    rows, scale: `temperature` of this loss.
    """
    return info_nce(scale * agreement, scale * all_agreements[:, own].T, own.start)


def feature_level_loss_as_released(
    agreement: Tensor, pooled: Tensor, texts: Tensor, own: slice, scale: Tensor
) -> Tensor:
    """L_TCLf as the released code computes it on several processes.

    Each process contributes only its images pooled by its own texts' masks, so text i meets an
    image of another process pooled by the mask of that process's i-th text.

    Args: agreement [B, N]; pooled: [N, B, D] of unit length, row j being image j pooled by the B
    texts of its own process; texts [N, D] of unit length; own, scale: as above.
    """
    text_logits = torch.einsum("jid,id->ij", pooled, texts[own])  # [B, N]
    return info_nce(scale * agreement, scale * text_logits, own.start)


def gumbel_mask(logits: Tensor, uniform: Tensor, tau: float = 1.0) -> Tensor:
    """Binary masks whose gradient is that of a soft one: the Gumbel-sigmoid, straight-through.

    y = sigmoid((logits + log(u / (1 - u))) / tau); forward 1[y > 0.5], backward that of y.

    Args: logits [...]; uniform: noise u in [0, 1) of the same shape. Returns: [...], 0 or 1.
    """
    noise = torch.log(uniform / (1 - uniform))  # logistic
    soft = torch.sigmoid((at_least_float32(logits) + noise) / tau)
    hard = (soft > 0.5).to(soft.dtype)
    return hard - soft.detach() + soft


def masked_images(images: Tensor, masks: Tensor) -> Tensor:
    """Images [B, 3, H, W] times masks [B, 1, h, w], which are enlarged to H x W by nearest."""
    return images * F.interpolate(masks, size=images.shape[-2:], mode="nearest")


def pool(pixels: Tensor, masks: Tensor) -> Tensor:
    """p[i, j] = sum_xy M[i, j] e[i] / (sum_xy M[i, j] + 1e-6), then to unit length.

    Args: pixels e [B, D, h, w], not normalized; masks M [B, K, h, w] in [0, 1].
    Returns: [B, K, D].
    """
    masks, cells = masks.flatten(2), masks.shape[-2] * masks.shape[-1]
    weights = masks / (masks.sum(-1, keepdim=True) + EPS)
    # Half types: weights near 1 / cells would be subnormal, sums of unweighted values too large.
    lift = cells**0.5
    sums = torch.matmul(weights * lift, pixels.flatten(2).mT)
    return F.normalize(at_least_float32(sums) / lift, dim=-1, eps=EPS)
