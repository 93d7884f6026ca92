"""PAMR's iterations on a CPU for several classes: every pixel a bag of its 48 neighbours, summed by `embedding_bag`.

With the classes of a pixel side by side in memory, the weighted sum over its neighbours is what recommender models ask
of an embedding table: for each bag, sum some rows times their weights. Torch ships a vectorised kernel for it, so the
sums stay in registers without a compiler on the machine: 2 to 4 times the speed of shifted multiply-adds for 21
classes, in the same order. It pays from a few classes on; a single one has nothing to lie side by side with.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Offset = tuple[int, int]

MIN_CLASSES = 4  # below, shifted multiply-adds are as fast
BLOCK_CLASSES = 8  # at most side by side: one vector of a common CPU, and little memory
BLOCK_PIXELS = 2**13  # of one call; its indices and weights are 2 x 1.5 MB, its result less


def refine(alpha: Tensor, mask: Tensor, num_iter: int, pad: int, offsets: list[Offset]) -> Tensor:
    """`num_iter` iterations: alpha [B,K,H,W] in channels-last memory, mask [B,N,H,W] float32 -> [B,N,H,W] float32.

    pad: the largest offset. Holds two padded copies of at most BLOCK_CLASSES classes.
    """
    out = torch.empty_like(mask, memory_format=torch.contiguous_format)
    near = alpha.permute(0, 2, 3, 1)  # (B, H, W, K), contiguous
    height, width = near.shape[1:3]
    index = _indices((height, width), pad, offsets, mask.device)
    blocks = class_blocks(mask.shape[1])
    most = max(block.stop - block.start for block in blocks)
    spare = mask.new_empty(2, (height + 2 * pad) * (width + 2 * pad) * most)  # once: freed pieces are not reused well
    for b in range(len(mask)):
        for some in blocks:
            size = (height + 2 * pad, width + 2 * pad, some.stop - some.start)
            two = [part[: math.prod(size)].view(size) for part in spare]
            out[b, some] = _iterate(near[b], mask[b, some], index, num_iter, pad, *two)
    return out


def class_blocks(classes: int) -> list[slice]:
    """Slices of nearly equal length, at most BLOCK_CLASSES: none is left with a single class."""
    blocks = -(-classes // BLOCK_CLASSES)
    return [slice(i * classes // blocks, (i + 1) * classes // blocks) for i in range(blocks)]


def _indices(size: tuple[int, int], pad: int, offsets: list[Offset], device: torch.device) -> Tensor:
    """Where the neighbours of a block's pixels lie, counted from the block's first row of the padded map: [R*W,K].

    The same for every block of rows, as all pixels have their neighbours at the same distances in a padded map.
    """
    height, width = size
    rows = max(1, min(height, BLOCK_PIXELS // width))
    across = width + 2 * pad
    lines, columns = (torch.arange(n, dtype=torch.int32, device=device) for n in (rows, width))
    steps = [(pad + dy) * across + pad + dx for dy, dx in offsets]
    pixels = (lines[:, None] * across + columns).view(-1, 1)  # (R*W, 1)
    return pixels + torch.tensor(steps, dtype=torch.int32, device=device)


def _iterate(
    near: Tensor, maps: Tensor, index: Tensor, num_iter: int, pad: int, current: Tensor, following: Tensor
) -> Tensor:
    """near [H,W,K], maps [n,H,W], scratch current and following [H+2p,W+2p,n] -> [n,H,W], a view of one of them."""
    current[pad:-pad, pad:-pad] = maps.permute(1, 2, 0)
    _replicate_border_(current, pad)
    for _ in range(num_iter):
        _step_(following[pad:-pad, pad:-pad], current, near, index)
        _replicate_border_(following, pad)
        current, following = following, current
    return current[pad:-pad, pad:-pad].permute(2, 0, 1)


def _step_(out: Tensor, padded: Tensor, near: Tensor, index: Tensor) -> None:
    """out [H,W,n] becomes the sum over the neighbours in padded [H+2p,W+2p,n], weighted by near [H,W,K]."""
    height, width, neighbours = near.shape
    rows = len(index) // width
    for y in range(0, height, rows):
        weights = near[y : y + rows].reshape(-1, neighbours)
        table = padded[y:].view(-1, padded.shape[-1])
        summed = F.embedding_bag(index[: len(weights)], table, mode="sum", per_sample_weights=weights)
        out[y : y + rows] = summed.view(-1, width, padded.shape[-1])


def _replicate_border_(padded: Tensor, pad: int) -> None:
    """Rewrite the border of [H+2p,W+2p,n] from its interior."""
    inside = padded[pad:-pad]
    inside[:, :pad] = inside[:, pad : pad + 1]
    inside[:, -pad:] = inside[:, -pad - 1 : -pad]
    padded[:pad] = padded[pad : pad + 1]
    padded[-pad:] = padded[-pad - 1 : -pad]
