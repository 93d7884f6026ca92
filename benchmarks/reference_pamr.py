"""PAMR as published (Araslanov & Roth, CVPR 2020; TCL, CVPR 2023): neighbours by convolutions.

One dilated 3x3 convolution per dilation, its kernels ones and minus ones, writes every neighbour of
every class into a tensor [B, N, 48, H, W] that is then multiplied by the weights and summed. The
reference of `benchmarks/`: slow, and gigabytes large, on purpose.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (1, 2, 4, 8, 12, 24)
CENTRE = 4  # of the nine taps


def kernels(taps: Sequence[int], minus_centre: bool = False) -> Tensor:
    """[len(taps), 1, 3, 3]: each picks one of the nine taps, minus the centre if asked."""
    picked = torch.eye(9)[list(taps)]
    if minus_centre:
        picked[:, CENTRE] -= 1
    return picked.view(-1, 1, 3, 3)


def gather(maps: Tensor, kernel: Tensor, dilations: Sequence[int]) -> Tensor:
    """[B, C, H, W] -> [B, C, len(kernel)*len(dilations), H, W]: all taps of every pixel at once."""
    batch, channels, height, width = maps.shape
    flat, kernel = maps.reshape(batch * channels, 1, height, width), kernel.to(maps)
    taps = [
        F.conv2d(F.pad(flat, (d, d, d, d), mode="replicate"), kernel, dilation=d) for d in dilations
    ]
    return torch.cat(taps, 1).view(batch, channels, -1, height, width)


def weights(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """[B, C, H, W] -> softmax over the neighbours [B, 1, K, H, W], K = 8 * len(dilations)."""
    around = [tap for tap in range(9) if tap != CENTRE]
    deviation = gather(image, kernels(range(9)), dilations).std(2, keepdim=True)  # (B, C, 1, H, W)
    distance = gather(image, kernels(around, minus_centre=True), dilations).abs()  # (B, C, K, H, W)
    return (-distance / (1e-8 + 0.1 * deviation)).mean(1, keepdim=True).softmax(2)


@torch.no_grad()
def pamr(
    image: Tensor, mask: Tensor, num_iter: int = 10, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """Refine `mask` [B, N, H, W] by `image` [B, C, H, W] -> [B, N, H, W]."""
    alpha = weights(image, dilations)
    return iterate(alpha, mask, num_iter, dilations)


@torch.no_grad()
def iterate(
    alpha: Tensor, mask: Tensor, num_iter: int, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """The iterations alone, with `weights`' result: [B, N, H, W] -> [B, N, H, W]."""
    kernel = kernels([tap for tap in range(9) if tap != CENTRE])
    for _ in range(num_iter):
        mask = (gather(mask, kernel, dilations) * alpha).sum(2)
    return mask
