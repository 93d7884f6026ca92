"""torch.save files, zip and legacy, as data: nothing in them is executed.

    content = read_torch_file("best_checkpoint.pth")
    state = content.tensors(content.data["model"])    # {name: tensor}; the optimizer stays unread

`data` is what tensor_pickle.py makes of the pickle; tensors are read when they are asked for.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ...errors import TTDError
from ..files import check_regular, expanded
from .pickled_values import Storage, TensorRef
from .tensor_pickle import load_data

ERRORS = (
    zipfile.BadZipFile,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
)
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class TorchFile:
    """data: the content of the pickle. read: the bytes of a storage by its key, None: not there."""

    path: Path
    data: Any
    read: Callable[[str], bytes | None]

    def tensor(self, ref: Any) -> Tensor:
        """The tensor [...] that a `TensorRef` of `data` describes, on the CPU, in its own type.

        Its shape is `ref.size`.

        Errors: TTDError where it is no tensor, or lies outside of its storage.
        """
        if not isinstance(ref, TensorRef):
            raise TTDError(f"{self.path}: holds something else where a tensor must be")
        dtype = DTYPES.get(ref.storage.dtype)
        if dtype is None:
            raise TTDError(f"{self.path}: tensors in {ref.storage.dtype} are not supported")
        self._check(ref)
        if math.prod(ref.size) == 0:
            return torch.empty(0, dtype=dtype).reshape(ref.size)
        data = bytearray(self._bytes(ref.storage, dtype))
        flat = torch.frombuffer(data, dtype=dtype)
        return flat.as_strided(ref.size, ref.stride, ref.offset).clone()

    def tensors(self, refs: Any) -> dict[str, Tensor]:
        """{name: TensorRef} as tensors [...]. TTDError when `refs` is no such mapping."""
        if not isinstance(refs, dict) or not all(isinstance(key, str) for key in refs):
            raise TTDError(f"{self.path}: holds no mapping from names to tensors")
        return {name: self.tensor(ref) for name, ref in refs.items()}

    def _check(self, ref: TensorRef) -> None:
        """TTDError unless every element lies in the storage, each once at most."""
        last = ref.offset + sum((n - 1) * s for n, s in zip(ref.size, ref.stride, strict=True))
        numel = math.prod(ref.size)
        if numel and (last >= ref.storage.numel or numel > ref.storage.numel):
            raise TTDError(f"{self.path}: a tensor is larger than its storage; damaged?")

    def _bytes(self, storage: Storage, dtype: torch.dtype) -> bytes:
        data = self.read(storage.key)
        wanted = storage.numel * dtype.itemsize
        if data is None or len(data) < wanted:
            raise TTDError(f"{self.path}: the numbers of a tensor are missing; cut short?")
        return data[:wanted]


def read_torch_file(path: str | Path) -> TorchFile:
    """A file of torch.save (zip or legacy), or a plain pickle, as data.

    Errors: TTDError naming the file: missing, cut short, compressed, big-endian, or no such file.
    """
    path = expanded(path)
    check_regular(path)
    with _damage(path):
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        with path.open("rb") as file:
            return _read_pickles(path, file)


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever a reader of the file raises as one line about it."""
    try:
        yield
    except OSError as error:
        raise TTDError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ERRORS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TTDError(f"{path}: damaged ({reason}); was its download cut short?") from None


def _read_zip(path: Path) -> TorchFile:
    """torch's zip: NAME/data.pkl, NAME/data/KEY stored without compression."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "data.pkl" not in entries:
            raise TTDError(f"{path}: a zip, but none that torch.save wrote")
        # TorchScript's code is compressed, and not read
        used = [info for name, info in entries.items() if name.startswith("data")]
        if any(info.compress_type != zipfile.ZIP_STORED for info in used):
            raise TTDError(f"{path}: compressed, which torch.save never does; make it again")
        order = entries.get("byteorder")
        if order is not None and archive.read(order).strip() == b"big":
            raise TTDError(f"{path}: of a big-endian machine; save it again on another one")
        data = load_data(io.BytesIO(archive.read(entries["data.pkl"])), str(path))

    def read(key: str) -> bytes | None:
        """The bytes of a storage in the archive, None where there is none."""
        if f"data/{key}" not in entries:
            return None
        with _damage(path), zipfile.ZipFile(path) as opened:
            return opened.read(entries[f"data/{key}"])  # checked against its CRC

    return TorchFile(path, data, read)


def _read_pickles(path: Path, file: IO[bytes]) -> TorchFile:
    """torch's legacy form (magic, version, system, data, keys, storages), or one plain pickle."""
    first = load_data(file, str(path))
    if first != LEGACY_MAGIC:
        return TorchFile(path, first, lambda key: None)
    _, _, data, keys = (load_data(file, str(path)) for _ in range(4))
    if not isinstance(keys, list):
        raise TTDError(f"{path}: damaged, the list of storages is missing")
    places = _legacy_places(path, file, data, [str(key) for key in keys])

    def read(key: str) -> bytes | None:
        """The bytes of a storage at its place in the file, None where there is none."""
        offset, size = places.get(key, (0, -1))
        if size < 0:
            return None
        with _damage(path), path.open("rb") as opened:
            opened.seek(offset)
            return opened.read(size)

    return TorchFile(path, data, read)


def _legacy_places(
    path: Path, file: IO[bytes], data: Any, keys: list[str]
) -> dict[str, tuple[int, int]]:
    """Each storage is its number of elements (8 bytes) and the elements, in the order of `keys`."""
    widths = _element_sizes(path, data)
    end = path.stat().st_size
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        (numel,) = struct.unpack("<q", file.read(8))
        size = numel * widths.get(key, 0)
        if key not in widths or numel < 0 or file.tell() + size > end:
            raise TTDError(f"{path}: damaged, or cut short at storage {key[:20]}")
        places[key] = (file.tell(), size)
        file.seek(size, io.SEEK_CUR)
    return places


def _element_sizes(path: Path, data: Any) -> dict[str, int]:
    """Bytes of an element of every storage that the data refer to, by key."""
    sizes: dict[str, int] = {}
    pending, seen = [data], set[int]()
    while pending:
        value = pending.pop()
        if isinstance(value, TensorRef):
            dtype = DTYPES.get(value.storage.dtype)
            if dtype is None:
                raise TTDError(f"{path}: tensors in {value.storage.dtype} are not supported")
            sizes[value.storage.key] = dtype.itemsize
        elif id(value) not in seen:
            seen.add(id(value))
            pending.extend(_children(value))
    return sizes


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    parts = [getattr(value, name, None) for name in ("arguments", "state", "items")]
    return [part for part in parts if isinstance(part, dict | list | tuple | TensorRef)]
