"""What a pickle's data become when nothing is executed: values, tensors by reference, unknowns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Scalar = str | int | float | bool | bytes | None


@dataclass(frozen=True)
class Global:
    """A name that a pickle would import: "module.name"."""

    name: str


@dataclass
class Unknown:
    """An object that is not data to us.

    name: what would have been called; arguments: with what; state: what its attributes would be.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Storage:
    """A run of numbers of one type in a torch file, found by `key`. numel: as the file claims."""

    dtype: str
    key: str
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor as a torch file describes it: where it begins in a storage, sizes, strides."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def construct(called: Any, arguments: Any) -> Any:
    """The value of a call that only makes data; `Unknown` for every other call."""
    if not isinstance(called, Global) or not isinstance(arguments, tuple):
        return Unknown("a call of no name", (called, arguments))
    maker = MAKERS.get(called.name)
    if maker is None:
        return Unknown(called.name, arguments)
    return maker(*arguments)


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> TensorRef:
    numbers = [offset, *size, *stride]
    if not isinstance(storage, Storage) or len(size) != len(stride):
        raise ValueError("a tensor without storage or strides")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a tensor with negative sizes")
    return TensorRef(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> TensorRef:
    if not isinstance(data, TensorRef):
        raise ValueError("a parameter that is no tensor")
    return data


def _ordered(pairs: Sequence[Sequence[Any]] = ()) -> dict[Any, Any]:
    return dict(_pair(*pair) for pair in pairs)


def _pair(key: Scalar, value: Any) -> tuple[Scalar, Any]:
    return key, value


def _encoded(text: str, encoding: str) -> bytes:
    """How protocol 2 stores bytes: as the text of the same code points."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another encoding")
    return text.encode("latin-1")


def _size(numbers: Sequence[int] = ()) -> tuple[int, ...]:
    return tuple(numbers)


MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encoded,
}
