"""PAMR on a CPU for several classes: a pixel is a bag of its 48 neighbours for `embedding_bag`.

With the classes of a pixel side by side in memory, the weighted sum over its neighbours is what
recommender models ask of an embedding table: for each bag, sum some rows times their weights. Torch
ships a vectorised kernel for it, so the sums stay in registers without a compiler on the machine: 2
to 4 times the speed of shifted multiply-adds for 21 classes, in the same order. It pays from a few
classes on; a single one has nothing to lie side by side with.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Offset = tuple[int, int]

MIN_CLASSES = 4  # below, shifted multiply-adds are as fast
# At most side by side: a third slower with 8, little faster with 32 and twice the memory.
BLOCK_CLASSES = 16
BLOCK_PIXELS = 2**12  # of one call; its indices and weights are 2 x 0.8 MB, its result less


def refine(
    alpha: Tensor, mask: Tensor, num_iter: int, pad: int, offsets: Sequence[Offset]
) -> Tensor:
    """`num_iter` iterations of mask [B, N, H, W] float32: the same shape and type.

    alpha: the weights [B, K, H, W] in channels-last memory. pad: the largest offset. Holds one
    padded copy of at most BLOCK_CLASSES classes.
    """
    out = torch.empty_like(mask, memory_format=torch.contiguous_format)
    near = alpha.permute(0, 2, 3, 1)  # (B, H, W, K), contiguous
    height, width = near.shape[1:3]
    index = _indices((height, width), pad, offsets, mask.device)
    blocks = class_blocks(mask.shape[1])
    most = max(block.stop - block.start for block in blocks)
    # Once: freed pieces are not reused well.
    spare = mask.new_empty((height + 2 * pad) * (width + 2 * pad) * most)
    for b in range(len(mask)):
        for some in blocks:
            size = (height + 2 * pad, width + 2 * pad, some.stop - some.start)
            padded = spare[: math.prod(size)].view(size)
            inside = padded[pad:-pad, pad:-pad]  # (H, W, n)
            inside.copy_(mask[b, some].permute(1, 2, 0))
            for _ in range(num_iter):
                _replicate_border_(padded, pad)
                _step_(inside, padded, near[b], index, pad)
            out[b, some] = inside.permute(2, 0, 1)
    return out


def class_blocks(classes: int) -> list[slice]:
    """Slices of nearly equal length, at most BLOCK_CLASSES: none is left with a single class."""
    blocks = -(-classes // BLOCK_CLASSES)
    return [slice(i * classes // blocks, (i + 1) * classes // blocks) for i in range(blocks)]


def _indices(
    size: tuple[int, int], pad: int, offsets: Sequence[Offset], device: torch.device
) -> Tensor:
    """Where the neighbours of a block's pixels lie in the padded map: int32 [R * W, K].

    Counted from the block's first row; `size` = (H, W) of the map. The same for every block of
    rows, as all pixels have their neighbours at the same distances in a padded map.
    """
    height, width = size
    rows = max(1, min(height, BLOCK_PIXELS // width))
    across = width + 2 * pad
    lines, columns = (torch.arange(n, dtype=torch.int32, device=device) for n in (rows, width))
    steps = [(pad + dy) * across + pad + dx for dy, dx in offsets]
    pixels = (lines[:, None] * across + columns).view(-1, 1)  # (R*W, 1)
    return pixels + torch.tensor(steps, dtype=torch.int32, device=device)


def _step_(inside: Tensor, padded: Tensor, near: Tensor, index: Tensor, pad: int) -> None:
    """One iteration: every pixel becomes the sum of its neighbours, weighted by near [H, W, K].

    inside [H, W, n] is the interior of padded [H + 2p, W + 2p, n]. In place: rows are written as
    soon as no later one looks at them, `pad` rows on.
    """
    height, width, neighbours = near.shape
    rows = len(index) // width
    waiting: deque[tuple[int, Tensor]] = deque()
    for y in range(0, height, rows):
        weights = near[y : y + rows].reshape(-1, neighbours)
        table = padded[y:].view(-1, padded.shape[-1])
        summed = F.embedding_bag(
            index[: len(weights)], table, mode="sum", per_sample_weights=weights
        )
        waiting.append((y, summed.view(-1, width, padded.shape[-1])))
        while waiting and waiting[0][0] + pad <= y:
            start, done = waiting.popleft()
            inside[start : start + rows] = done
    for start, done in waiting:
        inside[start : start + rows] = done


def _replicate_border_(padded: Tensor, pad: int) -> None:
    """Rewrite the border of [H + 2p, W + 2p, n] from its interior."""
    inside = padded[pad:-pad]
    inside[:, :pad] = inside[:, pad : pad + 1]
    inside[:, -pad:] = inside[:, -pad - 1 : -pad]
    padded[:pad] = padded[pad : pad + 1]
    padded[-pad:] = padded[-pad - 1 : -pad]
