"""numpy's arrays, scalars and dtypes as a pickle describes them, read without numpy's unpickler."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .pickled_values import Global, Unknown

MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
ARRAYS = tuple(f"{module}._reconstruct" for module in MULTIARRAY)
SCALARS = tuple(f"{module}.scalar" for module in MULTIARRAY)
BUFFERS = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
KINDS = "fiub"  # numbers only: object arrays hold pickles


def array_of(value: Any) -> npt.NDArray[Any] | None:
    """The array or scalar that an `Unknown` of numpy stands for; None for anything else.

    Numbers of the machine's sizes only. Errors: ValueError where its parts do not fit together.
    """
    if not isinstance(value, Unknown):
        return None
    if value.name in ARRAYS and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, fortran, data = value.state
        return _array(dtype, tuple(shape), data, "F" if fortran else "C")
    if value.name in BUFFERS and len(value.arguments) == 4:
        data, dtype, shape, order = value.arguments
        return _array(dtype, tuple(shape), data, order)
    if value.name in SCALARS and len(value.arguments) == 2:
        return _array(value.arguments[0], (), value.arguments[1], "C")
    return None


def _array(dtype: Any, shape: tuple[int, ...], data: Any, order: str) -> npt.NDArray[Any]:
    kind = _dtype(dtype)
    if isinstance(data, str):  # how Python 2 stored it
        data = data.encode("latin-1")
    if not isinstance(data, bytes | bytearray) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array without data")
    if len(data) != math.prod(shape) * kind.itemsize:
        raise ValueError("an array whose data do not have its size")
    flat = np.frombuffer(data, kind)
    return flat.reshape(shape, order="F" if order == "F" else "C").astype(kind.newbyteorder("="))


def _dtype(value: Any) -> np.dtype[Any]:
    """Unknown("numpy.dtype", ("f8", ...), (version, "<", ...)) -> the dtype, numbers only."""
    if not isinstance(value, Unknown) or value.name != "numpy.dtype" or not value.arguments:
        raise ValueError("an array without a type")
    code = value.arguments[0]
    if isinstance(code, Global) or not isinstance(code, str) or code[:1] not in KINDS:
        raise ValueError("an array of something else than numbers")
    big = isinstance(value.state, tuple) and len(value.state) > 1 and value.state[1] == ">"
    mark = ">" if big else "<"
    return np.dtype(mark + code)
