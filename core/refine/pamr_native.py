"""PAMR on a CPU as a C kernel (`core/refine/pamr.c`), compiled once per machine with the C compiler that is there.

A sum over 48 neighbours that stays in registers is what no chain of library calls gives: several
times the speed of the `gathered` path. Without a compiler, or where it fails, `library()` is None
and the other paths serve.

Layouts: rows of maps are padded to `stride = pad + wide + pad` values, `wide` being the width
rounded up to whole vectors. The weights of a row lie together, [B,H,K,wide]; the [B,K,H,W] that
callers see is a view of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import math
import os
import platform
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ..utils.cache import cache_folder

Offset = tuple[int, int]

SOURCE = Path(__file__).with_name("pamr.c")
FLAGS = (
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-std=gnu11",
    "-shared",
    "-fPIC",
)
COMPILERS = ("cc", "gcc", "clang")
WIDE = 32  # rows are padded to a multiple of this many values: two vectors of 512 bits
BLOCK_CLASSES = (
    16  # refined at a time: bounds the memory, and 49 rows of them stay in a cache of 2 MB
)
COMPILE_SECONDS = 60


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel, from the cache or made now (about a second); None where there is no working compiler."""
    command = shlex.split(os.environ.get("CC", "")) or [next(filter(shutil.which, COMPILERS), "")]
    folder, compiler = cache_folder(), shutil.which(command[0])
    if not folder or not compiler:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        tuned = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
        # Code made for one processor stops another with an illegal instruction: homes are shared
        # between machines.
        key = repr(
            (
                SOURCE.read_bytes(),
                command,
                compiler,
                os.stat(compiler).st_mtime,
                FLAGS,
                tuned,
                _processor(),
            )
        )
        path = folder / f"pamr-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = path.with_suffix(f".{uuid.uuid4().hex}")
            try:
                subprocess.run(
                    [*command, *FLAGS, tuned, str(SOURCE), "-o", str(made), "-lm"],
                    check=True,
                    capture_output=True,
                    timeout=COMPILE_SECONDS,
                )
                made.replace(path)
            finally:
                made.unlink(missing_ok=True)
        return ctypes.CDLL(str(path))
    return None


def _processor() -> str:
    """What code for this processor may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.version()}"
    return "\n".join(
        sorted(
            {line for line in lines if line.startswith(("flags", "Features", "model", "CPU part"))}
        )
    )


def weights(image: Tensor, offsets: Sequence[Offset], dilations: int) -> Tensor:
    """image [B,C,H,W] float32 on the CPU -> weights [B,K,H,W], a view of [B,H,K,wide]."""
    batch, channels, height, width = image.shape
    pad, wide = _pad(offsets), _wide(width)
    padded = _padded(image, pad)
    near = torch.empty(batch, height, len(offsets), wide)
    spare = [torch.empty(3 * wide) for _ in range(torch.get_num_threads())]
    dy, dx = _steps(offsets)

    def rows(thread: int, first: int, last: int) -> None:
        """Weights of these rows."""
        library().weights(
            _at(padded),
            _at(near),
            _at(spare[thread]),
            _long(first),
            _long(last),
            channels,
            height,
            pad,
            padded.shape[-1],
            wide,
            len(offsets),
            dy,
            dx,
            len(offsets) + dilations,
        )

    with _Threads(batch * height) as threads:
        threads(rows)
    return near.permute(0, 2, 1, 3)[..., :width]


def refine(alpha: Tensor, mask: Tensor, num_iter: int, offsets: Sequence[Offset]) -> Tensor:
    """`num_iter` iterations: alpha [B,K,H,W], mask [B,N,H,W] float32 -> [B,N,H,W] float32.

    Holds two padded copies of at most BLOCK_CLASSES classes, and a copy of `alpha` where it is not
    from `weights`.
    """
    batch, classes, height, width = mask.shape
    pad, wide = _pad(offsets), _wide(width)
    near = _near(alpha, wide)
    out = torch.empty(mask.shape)
    steps = _steps(offsets)
    offset = [torch.empty(len(offsets), dtype=torch.int64) for _ in range(torch.get_num_threads())]
    blocks = -(-classes // BLOCK_CLASSES)
    size = batch * -(-classes // blocks) * height * (wide + 2 * pad)
    spare = torch.empty(2, size)  # once: freed pieces are not reused well
    with _Threads(batch * height) as threads:
        for i in range(blocks):
            some = slice(i * classes // blocks, (i + 1) * classes // blocks)
            current = _padded(mask[:, some], pad, spare[0])
            following = spare[1][: current.numel()].view_as(current)
            for _ in range(num_iter):

                def rows(
                    thread: int,
                    first: int,
                    last: int,
                    source: Tensor = current,
                    to: Tensor = following,
                ) -> None:
                    """One iteration of these rows."""
                    library().refine(
                        _at(near),
                        _at(source),
                        _at(to),
                        _at(offset[thread]),
                        _long(first),
                        _long(last),
                        source.shape[1],
                        height,
                        width,
                        pad,
                        source.shape[-1],
                        wide,
                        len(offsets),
                        *steps,
                    )

                threads(rows)
                current, following = following, current
            out[:, some] = current[..., pad : pad + width]
    return out


class _Threads:
    """Runs `work(thread, first, last)` over `lines` rows in as many threads as torch uses; C lets go of the GIL."""

    def __init__(self, lines: int):
        self._parts = max(1, min(torch.get_num_threads(), lines))
        self._bounds = [lines * i // self._parts for i in range(self._parts + 1)]

    def __enter__(self) -> _Threads:
        self._pool = ThreadPoolExecutor(self._parts - 1) if self._parts > 1 else None
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
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
    if (
        alpha.stride() == own
        and alpha.dtype == torch.float32
        and alpha.storage_offset() % wide == 0
    ):
        return alpha
    near = torch.zeros(batch, height, neighbours, wide)
    near[..., :width] = alpha.permute(0, 2, 1, 3)
    return near


def _padded(maps: Tensor, pad: int, spare: Tensor | None = None) -> Tensor:
    """[B,C,H,W] -> [B,C,H,stride], in `spare`: rows with their first and last pixel repeated to the left and right."""
    batch, channels, height, width = maps.shape
    maps = maps.contiguous()
    shape = (batch, channels, height, _wide(width) + 2 * pad)
    padded = torch.empty(shape) if spare is None else spare[: math.prod(shape)].view(shape)
    library().pad_rows(
        _at(maps), _at(padded), _long(batch * channels * height), width, pad, padded.shape[-1]
    )
    return padded


def _pad(offsets: Sequence[Offset]) -> int:
    return max(abs(step) for offset in offsets for step in offset)


def _wide(width: int) -> int:
    return -(-width // WIDE) * WIDE


def _steps(offsets: Sequence[Offset]) -> tuple[ctypes.Array, ctypes.Array]:
    return tuple(
        (ctypes.c_int * len(offsets))(*(offset[axis] for offset in offsets)) for axis in (0, 1)
    )


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


_long = ctypes.c_int64
