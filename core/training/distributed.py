"""The processes of one training run, as `torchrun` starts them: sums of gradients, and one fate for all.

The adapter is small (a few MB), so its gradients travel as one flat vector after the last backward
pass of a step. Every process draws the same random numbers and makes the same updates; nothing else
needs to be exchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import TTDError

PATIENCE = timedelta(hours=2)  # others wait while the first process evaluates


class PeerError(TTDError):
    """What another process of the run met and says itself: this one ends without a word."""


@dataclass(frozen=True)
class Ranks:
    """This process among `world` of them; one alone does everything without communication."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes, in place."""
        if self.world > 1:
            with peers():
                dist.all_reduce(values)
            values /= self.world
        return values

    def gather(self, value: Any) -> list[Any]:
        """A small value of every process, in the order of the ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with peers():
            dist.all_gather_object(values, value)
        return values

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.world > 1:
            with peers():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def agree(self, error: TTDError | None) -> None:
        """Raise in every process when any has an error: the first that has one raises it, the others a `PeerError`."""
        own = (
            None if error is None or isinstance(error, PeerError) else str(error)
        )  # a peer's is the peer's to tell
        errors = self.gather(own)
        met = [rank for rank, text in enumerate(errors) if text is not None]
        if met and met[0] == self.rank and error is not None:
            raise error
        if met:
            raise PeerError(errors[met[0]])
        if error is not None:
            raise error

    @contextmanager
    def together(self) -> Iterator[None]:
        """All processes go through the block, or none goes on: a TTDError in one of them ends all."""
        error = None
        try:
            yield
        except TTDError as caught:
            error = caught
        self.agree(error)


@contextmanager
def peers() -> Iterator[None]:
    """Turn the failure of a collective call into one line: another process is gone."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        raise TTDError(
            f"another process of this run has ended or cannot be reached ({reason})"
        ) from None


def started_by_torchrun() -> bool:
    """Whether the environment says that this is one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")))


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """This process's `Ranks`, by torchrun's environment variables; gloo on the CPU, NCCL on CUDA."""
    if not started_by_torchrun():
        yield Ranks()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    with peers():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
