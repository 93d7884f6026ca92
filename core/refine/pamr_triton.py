"""PAMR on CUDA as two Triton kernels: one for the weights, one for an iteration.

The plain form on a GPU is 48 small kernels an iteration, each of which reads and writes all maps.
Here a program owns a tile of pixels of a few classes: sums stay in registers, a weight is read once
for all of them, and the shifted reads of a tile overlap, so most come from the L1 cache. Neighbours
outside of the image are clamped: nothing is padded.

Import this module only where triton is installed; with TRITON_INTERPRET=1 set before, it runs on a
CPU, for tests.
"""

# Triton compiles the kernels and reads their annotations itself: they cannot carry Python's types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 16, 64  # pixels of a program: neighbours at most 24 away make a class's share of L1 28 kB
CLASSES = 8  # of a program: 8 x 1024 sums are 32 registers of each of 256 threads


@triton.jit
def _neighbour(y, x, offsets, k, height, width):
    """Index into a [H, W] map of neighbour k of pixels (y, x), clamped to the image."""
    yy = tl.minimum(tl.maximum(y + tl.load(offsets + 2 * k), 0), height - 1)
    xx = tl.minimum(tl.maximum(x + tl.load(offsets + 2 * k + 1), 0), width - 1)
    return yy * width + xx


@triton.jit
def _tile(program, height, width, TY: tl.constexpr, TX: tl.constexpr):
    """Rows and columns of the pixels of a tile, and which lie in the image."""
    across = tl.cdiv(width, TX)
    at = tl.arange(0, TY * TX)
    y = (program // across) * TY + at // TX
    x = (program % across) * TX + at % TX
    return y, x, (y < height) & (x < width)


@triton.jit
def _distance(channel, here, around, inside, scale):
    """|x_i - x_j| / sigma of a channel [H, W]."""
    centre = tl.load(channel + here, mask=inside, other=0.0)
    return tl.abs(tl.load(channel + around, mask=inside, other=0.0) - centre) * scale


@triton.jit
def _deviation(channel, y, x, inside, offsets, height, width, K: tl.constexpr, TAPS: tl.constexpr):
    """1 / (1e-8 + 0.1 sigma) of a channel [H, W] over all taps, by differences from the centre."""
    centre = tl.load(channel + y * width + x, mask=inside, other=0.0)
    total = tl.zeros_like(centre)
    squares = tl.zeros_like(centre)
    for k in range(K):
        around = _neighbour(y, x, offsets, k, height, width)
        difference = tl.load(channel + around, mask=inside, other=0.0) - centre
        total += difference
        squares += difference * difference
    variance = tl.maximum(squares - total * total / TAPS, 0.0) / (TAPS - 1)
    return 1.0 / (1e-8 + 0.1 * tl.sqrt(variance))


@triton.jit
def _weights_kernel(
    out,
    image,
    scales,
    offsets,
    height,
    width,
    C: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
):
    """out [B, K, H, W] <- softmax_k mean_c(-distance) of image [B, C, H, W].

    scales [B, C, H, W] is scratch. The distances are summed with a running minimum, then computed
    again for the result: cheaper than storing them.
    """
    size = height * width
    y, x, inside = _tile(tl.program_id(0), height, width, TY, TX)
    here = y * width + x
    picture = image + tl.program_id(1).to(tl.int64) * C * size
    scratch = scales + tl.program_id(1).to(tl.int64) * C * size
    for c in range(C):
        channel = picture + c * size
        scale = _deviation(
            channel, y, x, inside, offsets, height=height, width=width, K=K, TAPS=TAPS
        )
        tl.store(scratch + c * size + here, scale / C, mask=inside)
    tl.debug_barrier()  # the scratch is read back below
    nearest = tl.full((TY * TX,), float("inf"), tl.float32)
    total = tl.zeros((TY * TX,), tl.float32)
    for k in range(K):
        around = _neighbour(y, x, offsets, k, height, width)
        distance = tl.zeros((TY * TX,), tl.float32)
        for c in range(C):
            scale = tl.load(scratch + c * size + here, mask=inside, other=0.0)
            distance += _distance(picture + c * size, here, around, inside, scale)
        closer = tl.minimum(nearest, distance)
        total = total * tl.exp(closer - nearest) + tl.exp(closer - distance)
        nearest = closer
    target = out + tl.program_id(1).to(tl.int64) * K * size
    for k in range(K):
        around = _neighbour(y, x, offsets, k, height, width)
        distance = tl.zeros((TY * TX,), tl.float32)
        for c in range(C):
            scale = tl.load(scratch + c * size + here, mask=inside, other=0.0)
            distance += _distance(picture + c * size, here, around, inside, scale)
        tl.store(target + k * size + here, tl.exp(nearest - distance) / total, mask=inside)


@triton.jit
def _step_kernel(
    out,
    maps,
    alpha,
    offsets,
    classes,
    height,
    width,
    K: tl.constexpr,
    N: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
):
    """out <- sum_k alpha_k * maps shifted by k, for N classes of a tile.

    out, maps [B, classes, H, W]; alpha [B, K, H, W].
    """
    size = height * width
    y, x, inside = _tile(tl.program_id(1), height, width, TY, TX)
    here = y * width + x
    number = tl.program_id(0) * N + tl.arange(0, N)
    planes = (tl.program_id(2).to(tl.int64) * classes + number) * size  # (N,)
    some = (number < classes)[:, None] & inside[None, :]  # (N, pixels)
    weights = alpha + tl.program_id(2).to(tl.int64) * K * size
    total = tl.zeros((N, TY * TX), tl.float32)
    for k in range(K):
        weight = tl.load(weights + k * size + here, mask=inside, other=0.0)
        around = _neighbour(y, x, offsets, k, height, width)
        total += weight[None, :] * tl.load(
            maps + planes[:, None] + around[None, :], mask=some, other=0.0
        )
    tl.store(out + planes[:, None] + here[None, :], total, mask=some)


def weights(image: Tensor, offsets: Sequence[tuple[int, int]], dilations: int) -> Tensor:
    """The weights of `PAMR.weights`: image [B, C, H, W] float32 -> [B, K, H, W].

    K = len(offsets), of so many dilations.
    """
    image = image.contiguous()
    batch, channels, height, width = image.shape
    out = image.new_empty(batch, len(offsets), height, width)
    grid = (_tiles(height, width), batch)
    with _device_of(image):
        _weights_kernel[grid](
            out,
            image,
            torch.empty_like(image),
            _on_device(offsets, image),
            height,
            width,
            C=channels,
            K=len(offsets),
            TAPS=len(offsets) + dilations,
            TY=TILE[0],
            TX=TILE[1],
            num_warps=8,
        )
    return out


def refine(
    alpha: Tensor, mask: Tensor, num_iter: int, offsets: Sequence[tuple[int, int]]
) -> Tensor:
    """`num_iter` >= 1 iterations of mask [B, N, H, W] float32: the same shape and type.

    alpha: the weights [B, K, H, W]. Holds two more sets of maps.
    """
    alpha, current = alpha.contiguous(), mask.contiguous()
    batch, classes, height, width = mask.shape
    spare = [torch.empty_like(current), torch.empty_like(current)][: min(num_iter, 2)]
    block = min(CLASSES, triton.next_power_of_2(classes))
    # Class blocks next to each other share weights.
    grid = (triton.cdiv(classes, block), _tiles(height, width), batch)
    where = _on_device(offsets, mask)
    for i in range(num_iter):
        following = spare[i % len(spare)]
        with _device_of(mask):
            _step_kernel[grid](
                following,
                current,
                alpha,
                offsets=where,
                classes=classes,
                height=height,
                width=width,
                K=len(offsets),
                N=block,
                TY=TILE[0],
                TX=TILE[1],
                num_warps=8,
            )
        current = following
    return current


def _device_of(tensor: Tensor) -> Any:
    """A context: Triton launches on the current device, wherever the tensors are."""
    device_of: Any = torch.cuda.device_of
    return device_of(tensor)


def _tiles(height: int, width: int) -> int:
    """Programs that cover a map."""
    return -(-height // TILE[0]) * -(-width // TILE[1])


def _on_device(offsets: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """(dy, dx) of each neighbour: int32 [K, 2]."""
    return torch.tensor(offsets, dtype=torch.int32, device=like.device)
