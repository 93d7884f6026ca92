"""PAMR's iterations on a CPU for several classes: every pixel a bag of its 48 neighbours, summed by `embedding_bag`.

With the classes of a pixel side by side in memory, the weighted sum over its neighbours is what recommender models ask
of an embedding table: for each bag, sum some rows times their weights. Torch ships a vectorised kernel for it, so the
sums stay in registers without a compiler on the machine: 4 times the speed of shifted multiply-adds for 21 classes, the
same to the bit. It pays from a few classes on; a single one has nothing to lie side by side with.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Offset = tuple[int, int]

MIN_CLASSES = 4  # below, shifted multiply-adds are as fast
BLOCK_CLASSES = 32  # at most side by side: their rows within reach of a pixel still fit into the cache
BLOCK_PIXELS = 2**14  # of one call; its indices and weights are 2 x 3 MB, its result less


def refine(alpha: Tensor, mask: Tensor, num_iter: int, pad: int, offsets: list[Offset]) -> Tensor:
    """`num_iter` iterations: alpha [B,K,H,W] in channels-last memory, mask [B,N,H,W] float32 -> [B,N,H,W] float32.

    pad: the largest offset. Holds two padded copies of at most BLOCK_CLASSES classes.
    """
    out = torch.empty_like(mask, memory_format=torch.contiguous_format)
    near = alpha.permute(0, 2, 3, 1)  # (B, H, W, K), contiguous
    index = _indices(near.shape[1:3], pad, offsets, mask.device)
    for b in range(len(mask)):
        for some in class_blocks(mask.shape[1]):
            out[b, some] = _iterate(near[b], mask[b, some], index, num_iter, pad)
    return out


def class_blocks(classes: int) -> list[slice]:
    """Slices of nearly equal length, at most BLOCK_CLASSES: none is left with a single class."""
    blocks = -(-classes // BLOCK_CLASSES)
    return [slice(i * classes // blocks, (i + 1) * classes // blocks) for i in range(blocks)]


def _indices(size: torch.Size, pad: int, offsets: list[Offset], device: torch.device) -> Tensor:
    """Where the neighbours of a block's pixels lie, counted from the block's first row of the padded map: [R*W,K].

    The same for every block of rows, as all pixels have their neighbours at the same distances in a padded map.
    """
    height, width = size
    rows = max(1, min(height, BLOCK_PIXELS // width))
    across = width + 2 * pad
    pixels = torch.arange(rows)[:, None] * across + torch.arange(width)  # (R, W)
    steps = torch.tensor([(pad + dy) * across + pad + dx for dy, dx in offsets])
    return (pixels.reshape(-1, 1) + steps).to(device, torch.int32)


def _iterate(near: Tensor, maps: Tensor, index: Tensor, num_iter: int, pad: int) -> Tensor:
    """near [H,W,K], maps [n,H,W] -> [n,H,W], a view."""
    current = F.pad(maps[None], (pad,) * 4, mode="replicate")[0].permute(1, 2, 0).contiguous()  # (H+2p, W+2p, n)
    following = torch.empty_like(current)
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
