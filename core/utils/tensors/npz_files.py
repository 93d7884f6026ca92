"""Arrays of numbers from a `.npz` file, as data: no pickle is opened, no size is believed.

state = read_npz(path)        # {name: float32 tensor}
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ...errors import TTDError

MOST_RATIO = 200  # times that a member may shrink by its packing; weights hardly shrink at all
MOST_MEMBERS = 100_000
# (shape, whether in Fortran's order, type) of an array
Header = tuple[tuple[int, ...], bool, "np.dtype[np.generic]"]
KINDS = "fiub"  # float, int, unsigned, bool


def read_npz(path: Path) -> dict[str, Tensor]:
    """Every array of a file of `numpy.savez`, by name, in the shapes [...] and types that it has.

    Errors: TTDError for a file that is no such archive, is damaged, holds Python objects (which
        numpy would unpickle), or says sizes that its bytes cannot hold.
    """
    with _opened(path) as archive:
        return {_name(info): _array(archive, info, path) for info in archive.infolist()}


def check_npz(path: Path) -> None:
    """TTDError as `read_npz`, from what the file says of its arrays; they are not read."""
    with _opened(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                _checked_header(file, info, path)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive. What its library raises becomes one TTDError."""
    try:
        with zipfile.ZipFile(path) as archive:
            count = len(archive.infolist())
            if not 0 < count <= MOST_MEMBERS:
                raise TTDError(f"{path} is an archive of {count} files, not of weights")
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, RuntimeError) as error:
        raise TTDError(
            f"{path} is not a readable .npz file, was its download cut short? "
            f"({' '.join(str(error).split())[:200]})"
        ) from None


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Tensor:
    """One member as a tensor. TTDError naming it where it is no array of numbers."""
    with archive.open(info) as file:
        shape, fortran, dtype = _checked_header(file, info, path)
        size = math.prod(shape) * dtype.itemsize
        data = file.read(size)
    if len(data) != size:
        raise TTDError(f"{path}: {info.filename[:100]!r} is cut short")
    array = np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")
    native = np.ascontiguousarray(array, dtype.newbyteorder("="))
    return torch.from_numpy(native).reshape(shape)


def _checked_header(file: IO[bytes], info: zipfile.ZipInfo, path: Path) -> Header:
    """What a member says of its array, checked against its bytes. TTDError naming it."""
    where = f"{path}: {info.filename[:100]!r}"
    if not info.filename.endswith(".npy") or info.is_dir():
        raise TTDError(f"{where} is no array: a .npz file of weights holds .npy files alone")
    if info.file_size > MOST_RATIO * max(info.compress_size, 1):
        raise TTDError(f"{where} unpacks to {info.file_size} bytes, more than weights ever do")
    shape, fortran, dtype = _header(file, where)
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise TTDError(f"{where} is said to be {list(shape)}, more than its bytes can hold")
    return shape, fortran, dtype


def _header(file: IO[bytes], where: str) -> Header:
    """(shape, whether in Fortran's order, type) of an array. TTDError for what is no number."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = readers[version](file)
    except (KeyError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise TTDError(f"{where} has no header of numpy's: the file is damaged") from None
    if dtype.hasobject or dtype.kind not in KINDS or dtype.itemsize > 8 or dtype.names:
        raise TTDError(f"{where} holds {dtype}, not numbers: objects are never unpickled")
    if len(shape) > 8 or any(side < 0 for side in shape):
        raise TTDError(f"{where} has the shape {shape}, which no weight has")
    return shape, bool(fortran), dtype
