"""Running out of memory: told apart from other errors, one line, or a smaller batch."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..errors import TTDError

Result = TypeVar("Result")

# How torch words it: CUDA's OutOfMemoryError, the CPU allocator, cuBLAS, cuDNN. The word "memory"
# alone says nothing: "illegal memory access" is a bug.
WORDS = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the CPU's or the GPU's memory ran out."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in WORDS)


@contextmanager
def memory_errors(message: str) -> Iterator[None]:
    """Turn the block's lack of memory into TTDError(message); other errors pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TTDError(message) from None


def in_smaller_batches(
    work: Callable[[int], Result], batch: int, advice: str
) -> tuple[Result, int]:
    """`work(batch)`, with half the batch each time memory runs out -> result, batch that fitted.

    `work` starts from the beginning each time; its result must be the same for every batch >= 1,
    up to rounding. A smaller batch is said as a warning. TTDError ending in `advice` when a batch
    of 1 does not fit either.
    """
    while True:
        try:
            return work(batch), batch
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Out here the error is gone, and with it the tensors that its frames held.
        release()
        if batch == 1:
            raise TTDError(f"not enough memory, even with a batch of 1; {advice}")
        warnings.warn(
            f"not enough memory for a batch of {batch}; continuing with {batch // 2}", stacklevel=2
        )
        batch //= 2


def release() -> None:
    """Hand unused memory back to the device, so that it can be split otherwise."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
