"""Which exceptions mean that memory ran out."""

import pytest
import torch

from core.errors import TTDError
from core.utils.memory import is_out_of_memory, memory_errors


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("memory"), False),
    ],
)
def test_what_counts(error, expected):
    assert is_out_of_memory(error) is expected
    with pytest.raises(TTDError if expected else type(error)) as caught, memory_errors("too large"):
        raise error
    assert not expected or str(caught.value) == "too large"
