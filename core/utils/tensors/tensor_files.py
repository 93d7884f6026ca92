"""Writing tensors to a file, so that what the disk says is what the user hears.

torch's writer calls a full disk "unexpected pos", and safetensors' has an error of its own kind and
a temporary file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PROBE = 1 << 20  # bytes that a full disk does not take


def save_torch(content: Mapping[str, Any], path: Path) -> None:
    """Write a file of torch.save. OSError with the system's reason when it cannot be written."""
    try:
        torch.save(content, path)
    except RuntimeError:
        with path.open("ab") as file:  # the same fault again, this time with its reason
            file.write(bytes(PROBE))
        raise


def save_safetensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors [...] by name. OSError when the file cannot be written."""
    from safetensors.torch import save

    path.write_bytes(save(dict(tensors), None if metadata is None else dict(metadata)))
