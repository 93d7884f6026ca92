"""PAMR on a CPU as a C kernel (`core/refine/pamr.c`), which `pamr_library` compiles and keeps.

A sum over 48 neighbours that stays in registers is what no chain of library calls gives: several
times the speed of the `gathered` path. Without a C compiler, or where it fails, `library()` is None
and the other paths are used.

Layouts: rows of maps are padded to `stride = pad + wide + pad` values, `wide` being the width
rounded up to whole vectors. The weights of a row lie together, [B, H, K, wide]; the [B, K, H, W]
that callers see is a view of it.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ..errors import TTDError
from .pamr_library import library

Offset = tuple[int, int]
Ints = ctypes.Array[ctypes.c_int]

WIDE = 32  # rows are padded to a multiple of this many values: two vectors of 512 bits
# Refined at a time: bounds the memory, and 49 rows of them stay in a cache of 2 MB.
BLOCK_CLASSES = 16


def _loaded() -> ctypes.CDLL:
    """The kernel, where it is known to be there. TTDError otherwise."""
    found = library()
    if found is None:
        raise TTDError("PAMR's native kernel is not there: a C compiler is missing")
    return found


def weights(image: Tensor, offsets: Sequence[Offset], dilations: int) -> Tensor:
    """image [B, C, H, W] float32 on the CPU -> weights [B, K, H, W], a view of [B, H, K, wide]."""
    batch, channels, height, width = image.shape
    pad, wide = _pad(offsets), _wide(width)
    padded = _padded(image, pad)
    near = torch.empty(batch, height, len(offsets), wide)
    spare = [torch.empty(3 * wide) for _ in range(torch.get_num_threads())]
    steps = _steps(offsets)
    kernel, taps = _loaded().weights, len(offsets) + dilations
    sizes = (channels, height, pad, padded.shape[-1], wide, len(offsets))

    def rows(thread: int, first: int, last: int) -> None:
        """Weights of these rows."""
        buffers = (_at(padded), _at(near), _at(spare[thread]))
        kernel(*buffers, _long(first), _long(last), *sizes, *steps, taps)

    with _Threads(batch * height) as threads:
        threads(rows)
    return near.permute(0, 2, 1, 3)[..., :width]


def refine(alpha: Tensor, mask: Tensor, num_iter: int, offsets: Sequence[Offset]) -> Tensor:
    """`num_iter` iterations of mask [B, N, H, W] float32: the same shape and type.

    alpha: the weights [B, K, H, W]. Holds two padded copies of at most BLOCK_CLASSES classes, and a
    copy of `alpha` where it is not from `weights`.
    """
    batch, classes, height, width = mask.shape
    pad, wide = _pad(offsets), _wide(width)
    near = _near(alpha, wide)
    out = torch.empty(mask.shape)
    step = _Step(near, offsets, width)
    blocks = -(-classes // BLOCK_CLASSES)
    size = batch * -(-classes // blocks) * height * (wide + 2 * pad)
    spare = torch.empty(2, size)  # once: freed pieces are not reused well
    with _Threads(batch * height) as threads:
        for i in range(blocks):
            some = slice(i * classes // blocks, (i + 1) * classes // blocks)
            current = _padded(mask[:, some], pad, spare[0])
            following = spare[1][: current.numel()].view_as(current)
            for _ in range(num_iter):
                threads(functools.partial(step, current, following))
                current, following = following, current
            out[:, some] = current[..., pad : pad + width]
    return out


class _Step:
    """One iteration of some rows, from one set of padded maps to another."""

    def __init__(self, near: Tensor, offsets: Sequence[Offset], width: int) -> None:
        """near: the weights as `_near` gives them, of maps `width` pixels wide."""
        self._kernel, self._near, self._width = _loaded().refine, near, width
        self._count, self._pad, self._steps = len(offsets), _pad(offsets), _steps(offsets)
        threads = torch.get_num_threads()
        self._spare = [torch.empty(len(offsets), dtype=torch.int64) for _ in range(threads)]

    def __call__(self, source: Tensor, to: Tensor, thread: int, first: int, last: int) -> None:
        """source, to: [B, n, H, stride]; rows `first` to `last` of the B * H are written."""
        buffers = (_at(self._near), _at(source), _at(to), _at(self._spare[thread]))
        classes, height, stride = source.shape[1:]
        sizes = (classes, height, self._width, self._pad, stride, _wide(self._width), self._count)
        self._kernel(*buffers, _long(first), _long(last), *sizes, *self._steps)


class _Threads:
    """Runs `work(thread, first, last)` over `lines` rows in as many threads as torch uses.

    ctypes releases the GIL while C runs.
    """

    def __init__(self, lines: int) -> None:
        self._parts = max(1, min(torch.get_num_threads(), lines))
        self._bounds = [lines * i // self._parts for i in range(self._parts + 1)]

    def __enter__(self) -> _Threads:
        self._pool = ThreadPoolExecutor(max(1, self._parts - 1))  # threads begin when needed
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def __call__(self, work: Callable[[int, int, int], None]) -> None:
        waiting = [
            self._pool.submit(work, i, self._bounds[i], self._bounds[i + 1])
            for i in range(1, self._parts)
        ]
        work(0, 0, self._bounds[1])
        for future in waiting:
            future.result()


def _near(alpha: Tensor, wide: int) -> Tensor:
    """The weights as the kernel reads them; a copy when they are in another order."""
    batch, neighbours, height, width = alpha.shape
    own = (height * neighbours * wide, wide, neighbours * wide, 1)
    aligned = alpha.storage_offset() % wide == 0
    if aligned and alpha.stride() == own and alpha.dtype == torch.float32:
        return alpha
    near = torch.zeros(batch, height, neighbours, wide)
    near[..., :width] = alpha.permute(0, 2, 1, 3)
    return near


def _padded(maps: Tensor, pad: int, spare: Tensor | None = None) -> Tensor:
    """[B, C, H, W] -> [B, C, H, stride], in `spare` if given.

    The first and last pixel of every row are repeated to the left and right.
    """
    batch, channels, height, width = maps.shape
    maps = maps.contiguous()
    shape = (batch, channels, height, _wide(width) + 2 * pad)
    padded = torch.empty(shape) if spare is None else spare[: math.prod(shape)].view(shape)
    rows = _long(batch * channels * height)
    _loaded().pad_rows(_at(maps), _at(padded), rows, width, pad, padded.shape[-1])
    return padded


def _pad(offsets: Sequence[Offset]) -> int:
    return max(abs(step) for offset in offsets for step in offset)


def _wide(width: int) -> int:
    return -(-width // WIDE) * WIDE


def _steps(offsets: Sequence[Offset]) -> tuple[Ints, Ints]:
    """All dy and all dx as C arrays."""
    kind = ctypes.c_int * len(offsets)
    return kind(*(dy for dy, _ in offsets)), kind(*(dx for _, dx in offsets))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


_long = ctypes.c_int64
