"""Running out of memory, on the CPU or a GPU, as one line that says what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import TTDError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out.

    torch reports it as a RuntimeError with "memory" in its text (torch.OutOfMemoryError on CUDA).
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and "memory" in str(error).lower()


@contextmanager
def memory_errors(message: str) -> Iterator[None]:
    """Turn the block's lack of memory into TTDError(message); other errors pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TTDError(message) from None
