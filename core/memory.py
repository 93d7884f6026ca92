"""Running out of memory: told apart from other errors, and answered with smaller batches."""

import gc
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from core.errors import TTDError

Result = TypeVar("Result")

# How torch words it where it raises a plain RuntimeError: CPU allocator, cuBLAS, cuDNN.
# "illegal memory access" is a bug, not a lack of memory, so the word "memory" alone says nothing.
WORDS = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the CPU's or the GPU's memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)


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
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
