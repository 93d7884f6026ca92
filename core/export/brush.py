"""Label Studio's run lengths of a mask: a string of bits, packed into bytes.

32 bits: how many values follow (4 a pixel, row by row: red, green, blue and alpha); 5 bits: the
bits of a value less one; 4 times 4 bits: the four sizes of a run's length less one. Then runs: 1
bit (1: one value repeated), 2 bits (which of the sizes), the length less one, and the value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

WORD = 8  # bits of a value
SIZES = (3, 4, 8, 16)  # bits of a run's length
LONGEST = 1 << SIZES[-1]  # values in a run
CHANNELS, FULL = 4, 255

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def brush_rle(mask: Mask) -> list[int]:
    """bool [H, W] -> the bytes of Label Studio's RLE as numbers; what is True is opaque white."""
    lengths, values = _runs(mask)
    bits = [_bits(mask.size * CHANNELS, 32), _bits(WORD - 1, 5)]
    bits += [_bits(size - 1, 4) for size in SIZES]
    bits += [_run(length, value) for length, value in zip(lengths, values, strict=True)]
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _runs(mask: Mask) -> tuple[list[int], list[int]]:
    """Lengths (1 to `LONGEST`) and values (0 or 255) of the runs of all channels, row by row."""
    flat = np.asarray(mask, bool).ravel()  # [H * W]
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))  # of runs, 0 among them
    counts = CHANNELS * np.diff(starts, append=flat.size)
    lengths: list[int] = []
    values: list[int] = []
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        parts = [LONGEST] * (count // LONGEST) + [count % LONGEST] * (count % LONGEST > 0)
        lengths += parts
        values += [FULL * int(flat[start])] * len(parts)
    return lengths, values


def _run(length: int, value: int) -> str:
    """The bits of one run."""
    place = next(k for k, size in enumerate(SIZES) if length <= 1 << size)
    return "1" + _bits(place, 2) + _bits(length - 1, SIZES[place]) + _bits(value, WORD)


def _bits(number: Any, width: int) -> str:
    return f"{number:0{width}b}"
