"""PAMR by shifted multiply-adds on slices of one padded buffer: the path for any device.

Clamping an index does not care how far outside it was, so padding by the largest dilation is
enough for all of them. Nothing of the size classes x 48 x pixels ever exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Offset = tuple[int, int]

# One multiply-add reads and writes this many values at most on a CPU (256 kB), so that it stays in
# the cache.
CPU_BLOCK_VALUES = 2**16


def weights(
    image: Tensor, offsets: Sequence[Offset], dilations: int, order: torch.memory_format
) -> Tensor:
    """image [B, C, H, W] float32 -> weights [B, K, H, W], K = len(offsets) of so many dilations.

    order: in memory, contiguous or channels-last.
    """
    batch, channels, height, width = image.shape
    shape = (batch, len(offsets), height, width)
    out = torch.empty(shape, device=image.device, memory_format=order)
    pad = max(max(offset) for offset in offsets)
    padded = _pad_replicate(image, pad)  # [B, C, H + 2p, W + 2p]
    for images, _, rows in _blocks((batch, 1, height, width), image.device, 2 * channels):
        target = out[images, :, rows]
        if order == torch.contiguous_format:
            _affinity_(target, padded[images], rows, pad, offsets, dilations)
        else:
            # Writing one neighbour at a time would touch every line 48 times: a planar block.
            block = torch.empty_like(target, memory_format=torch.contiguous_format)
            _affinity_(block, padded[images], rows, pad, offsets, dilations)
            target.copy_(block)
    return out


def refine(
    weights: Tensor, mask: Tensor, num_iter: int, pad: int, offsets: Sequence[Offset]
) -> Tensor:
    """`num_iter` iterations: weights [B, K, H, W], mask [B, N, H, W] -> [B, N, H, W].

    pad: the largest offset. Holds two padded copies of the masks.
    """
    current = _pad_replicate(mask, pad)  # [B, N, H + 2p, W + 2p]
    following = torch.empty_like(current)
    for _ in range(num_iter):
        _propagate_(following, current, weights, pad, offsets)
        _replicate_border_(following, pad)
        current, following = following, current
    del following  # before the copy below: keeps the peak at two sets of maps
    return current[..., pad:-pad, pad:-pad].contiguous()


def _affinity_(
    out: Tensor, padded: Tensor, rows: slice, pad: int, offsets: Sequence[Offset], n_dilations: int
) -> None:
    """Write softmax_j mean_c(-|x_i - x_j| / (1e-8 + 0.1 sigma)) of these rows to `out`.

    out: [B, K, R, W]; padded: [B, C, H + 2p, W + 2p]. Differences from the centre give the variance
    in one pass: n_dilations of the taps are the centre itself (difference 0), which bounds (sum
    d)^2 / taps by 8/9 of sum d^2, so little cancels; and a flat region has sigma = 0 exactly, hence
    equal weights.
    """
    centre = _shifted(padded, rows, pad, (0, 0))  # [B, C, R, W]
    total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
    difference = torch.empty_like(centre)
    for offset in offsets:
        torch.sub(_shifted(padded, rows, pad, offset), centre, out=difference)
        total += difference
        squares.addcmul_(difference, difference)
    taps = len(offsets) + n_dilations
    variance = squares.addcmul_(total, total, value=-1 / taps).clamp_(min=0).div_(taps - 1)
    # 1 / (C (1e-8 + 0.1 sigma))
    scale = variance.sqrt_().mul_(0.1).add_(1e-8).mul_(centre.shape[1]).reciprocal_()
    for k, offset in enumerate(offsets):
        torch.sub(_shifted(padded, rows, pad, offset), centre, out=difference)
        torch.sum(difference.abs_().mul_(scale), dim=1, out=out[:, k])
    torch.sub(out.amin(dim=1, keepdim=True), out, out=out).exp_()  # softmax(-distance), in place
    out.div_(out.sum(dim=1, keepdim=True))


def _propagate_(
    following: Tensor, current: Tensor, weights: Tensor, pad: int, offsets: Sequence[Offset]
) -> None:
    """One iteration: `following` becomes sum_j weights_j * `current` shifted by j.

    Both [B, N, H + 2p, W + 2p]; only the interior is written.
    """
    batch, classes = current.shape[:2]
    height, width = weights.shape[-2:]
    for images, some, rows in _blocks((batch, classes, height, width), current.device):
        source = current[images, some]  # [b, n, H + 2p, W + 2p]
        alpha = weights[images, :, rows]  # [b, K, R, W]
        out = _shifted(following[images, some], rows, pad, (0, 0))  # [b, n, R, W], a view
        torch.mul(alpha[:, 0, None], _shifted(source, rows, pad, offsets[0]), out=out)
        for k, offset in enumerate(offsets[1:], start=1):
            out.addcmul_(alpha[:, k, None], _shifted(source, rows, pad, offset))


def _blocks(
    shape: tuple[int, int, int, int], device: torch.device, values: int = 1
) -> Iterator[tuple[slice, slice, slice]]:
    """Slices (images, classes, rows) that cover [B, N, H, W] once; cache-sized on a CPU.

    values: of a pixel and class. One image at a time also makes its result on a CPU the same to
    the bit whatever it is batched with.
    """
    batch, classes, height, width = shape
    if device.type != "cpu":
        yield slice(0, batch), slice(0, classes), slice(0, height)
        return
    rows = max(1, CPU_BLOCK_VALUES // (classes * values * width))
    for b in range(batch):
        for y in range(0, height, rows):
            yield slice(b, b + 1), slice(0, classes), slice(y, min(y + rows, height))


def _shifted(padded: Tensor, rows: slice, pad: int, offset: Offset) -> Tensor:
    """View [..., R, W] of `padded` [..., H + 2p, W + 2p].

    Pixel (y, x) of the given rows shows pixel (y + dy, x + dx).
    """
    top, left = pad + offset[0], pad + offset[1]
    width = padded.shape[-1] - 2 * pad
    return padded[..., top + rows.start : top + rows.stop, left : left + width]


def _pad_replicate(maps: Tensor, pad: int) -> Tensor:
    """[B, C, H, W] -> [B, C, H + 2p, W + 2p], the border repeating the nearest pixel."""
    return F.pad(maps, (pad, pad, pad, pad), mode="replicate")


def _replicate_border_(padded: Tensor, pad: int) -> None:
    """Rewrite the border of `padded` [B, N, H + 2p, W + 2p] from its interior.

    Cheaper than padding a new copy.
    """
    inside = padded[..., pad:-pad, :]
    inside[..., :pad] = inside[..., pad : pad + 1]
    inside[..., -pad:] = inside[..., -pad - 1 : -pad]
    padded[..., :pad, :] = padded[..., pad : pad + 1, :]
    padded[..., -pad:, :] = padded[..., -pad - 1 : -pad, :]
