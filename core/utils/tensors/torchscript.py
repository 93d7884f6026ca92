"""The tensors of a TorchScript archive as data, without loading it.

`torch.jit.load` runs the `__setstate__` of every module in a file, and TorchScript can write files
(`torch.from_file`). Here the archive's pickle is read like any other: modules are attributes by
name, tensors among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import TTDError
from .pickled_values import TensorRef, Unknown
from .torch_files import read_torch_file

MOST_PLACES = 100_000  # of modules and tensors, each counted wherever it stands


def script_state(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers [...] of a compiled model by their dotted names, on the CPU.

    Errors: TTDError: damaged, or not the archive of one module.
    """
    stored = read_torch_file(path)
    refs: dict[str, TensorRef] = {}
    places: list[tuple[str, Any]] = [("", stored.data)]
    count = 0
    while places:
        prefix, module = places.pop()
        inner = []
        for name, value in _attributes(module):
            count += 1
            if isinstance(value, TensorRef):
                refs[prefix + name] = value
            elif isinstance(value, Unknown):
                inner.append((f"{prefix}{name}.", value))
        if count > MOST_PLACES:
            raise TTDError(f"{path}: more than {MOST_PLACES} parts; no model has so many")
        places += reversed(inner)
    if not refs:
        raise TTDError(f"{path}: a compiled model without tensors")
    return stored.tensors(refs)


def _attributes(module: Any) -> list[tuple[str, Any]]:
    """What a module of the archive consists of, by name."""
    if not isinstance(module, Unknown) or not isinstance(module.state, dict):
        return []
    return [(str(name), value) for name, value in module.state.items()]
