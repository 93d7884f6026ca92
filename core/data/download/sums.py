"""Checksums of files: measured, and compared with what was published."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import TTDError

DIGITS = {"sha256": 64, "md5": 32}
CHUNK = 1 << 20


@dataclass(frozen=True)
class Measured:
    """A file: its bytes, and its checksums in hexadecimal by their kind; `sha256` always."""

    size: int
    sums: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits."""
        return self.sums["sha256"]


def measure(path: Path, kinds: Mapping[str, str]) -> Measured:
    """Read a whole file. kinds: besides sha256, those to measure. OSError: it cannot be read."""
    made = {kind: hashlib.new(kind, usedforsecurity=False) for kind in {"sha256", *kinds}}
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            for one in made.values():
                one.update(chunk)
    return Measured(size, {kind: one.hexdigest() for kind, one in sorted(made.items())})


def check_sums(sums: Mapping[str, str], where: str) -> None:
    """TTDError unless every kind is known and every sum is written as it must be."""
    for kind, value in sums.items():
        if kind not in DIGITS:
            raise TTDError(f"{where}: no checksum {kind!r}; there are {', '.join(DIGITS)}")
        if not re.fullmatch(f"[0-9a-f]{{{DIGITS[kind]}}}", value):
            raise TTDError(f"{where}: {kind} must be {DIGITS[kind]} digits of 0-9 and a-f")


def difference(found: Measured, size: int | None, sums: Mapping[str, str]) -> str:
    """How a file differs from its published size and sums, "" where it does not."""
    if size is not None and found.size != size:
        return f"it has {found.size} bytes, published are {size}"
    for kind, value in sums.items():
        if found.sums[kind] != value:
            return f"its {kind} is {found.sums[kind]}, published is {value}"
    return ""
