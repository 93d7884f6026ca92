"""The processes of one training run, as `torchrun` starts them.

Every process makes the same updates from the same averaged gradients. An error in any of them
stops all, and one of them says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import TTDError

Value = TypeVar("Value")

# Bytes: 1.4 times faster than one flat vector for 21 M parameters (benchmarks/bench_reduce.py).
BUCKET = 25 * 2**20
TIMEOUT = timedelta(hours=2)  # others wait while the first process evaluates


class PeerError(TTDError):
    """An error that another process of the run met and reports itself: this one ends silently."""


@dataclass(frozen=True)
class Ranks:
    """This process among `world` of them; one alone does everything without communication.

    device: where small tensors of its own live, since NCCL moves those of a GPU only.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor [...] of any shape over all processes, in place."""
        if self.world > 1:
            with peers():
                dist.all_reduce(values)
            values /= self.world
        return values

    def average(self, tensors: Sequence[Tensor], bucket: int = BUCKET) -> None:
        """The means of many tensors [...] of one type over all processes, in place.

        They travel in buckets of at least `bucket` bytes: while one is on its way the next is
        filled. Small ones, such as an adapter's gradients, are a single call.
        """
        if self.world == 1:
            return
        with peers():
            jobs = [_start(tensors[part]) for part in buckets(tensors, bucket)]
            for flat, handle, members in jobs:
                handle.wait()
                flat /= self.world
                parts = torch.split(flat, [member.numel() for member in members])
                for member, part in zip(members, parts, strict=True):
                    member.copy_(part.view_as(member))

    def all_gather(self, values: Tensor) -> Tensor:
        """[B, ...] of every process -> [world * B, ...] in the order of the ranks, with gradients.

        The gradient of this process's rows is the sum of what all processes send back to them.
        When every process computes the same loss of the gathered rows, the mean over processes of
        the parameters' gradients is therefore the gradient of that loss.
        """
        if self.world == 1:
            return values
        with peers():
            gathered: Tensor = _AllGather.apply(values, self.rank, self.world)
        return gathered

    def gather_objects(self, value: Value) -> list[Value]:
        """A small value of every process, in the order of the ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with peers():
            dist.all_gather_object(values, value)
        return values

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, in place; tensors [...] of equal shapes."""
        if self.world > 1:
            with peers():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def broadcast_object(self, value: Value) -> Value:
        """The first process's value, in every process."""
        if self.world == 1:
            return value
        values = [value]
        with peers():
            dist.broadcast_object_list(values, 0, device=torch.device(self.device))
        return values[0]

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set in any process."""
        if self.world == 1:
            return list(flags)
        counts = torch.tensor(flags, dtype=torch.float32, device=self.device)
        with peers():
            dist.all_reduce(counts)
        return [count > 0 for count in counts.tolist()]

    def raise_any(self, error: TTDError | None) -> None:
        """Raise in every process when any has an error.

        The first process that has one raises it, the others a `PeerError`.
        """
        if not self.any(error is not None)[0]:
            return
        # A peer's error is the peer's to report.
        own = None if error is None or isinstance(error, PeerError) else str(error)
        errors = self.gather_objects(own)
        met = [rank for rank, text in enumerate(errors) if text is not None]
        if met and met[0] != self.rank:
            raise PeerError(errors[met[0]])
        raise error or PeerError("another process of this run has failed")

    @contextmanager
    def together(self) -> Iterator[None]:
        """All processes get through the block, or all fail: a TTDError in one of them ends all."""
        error = None
        try:
            yield
        except TTDError as caught:
            error = caught
        self.raise_any(error)


def buckets(tensors: Sequence[Tensor], size: int) -> list[slice]:
    """Consecutive tensors [...] as slices of at least `size` bytes each.

    The last slice may be smaller.
    """
    found, start, filled = [], 0, 0
    for i, tensor in enumerate(tensors):
        filled += tensor.numel() * tensor.element_size()
        if filled >= size or i + 1 == len(tensors):
            found.append(slice(start, i + 1))
            start, filled = i + 1, 0
    return found


def _start(members: Sequence[Tensor]) -> tuple[Tensor, Any, Sequence[Tensor]]:
    """Begin the sum of some tensors: the flat vector, a handle to wait for, the tensors."""
    flat = torch.cat([member.flatten() for member in members])
    return flat, dist.all_reduce(flat, async_op=True), members


class _AllGather(torch.autograd.Function):
    """all-gather along the first axis; backward sums over the processes and keeps the own rows."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rank: int, world: int) -> Tensor:
        """[B, ...] -> [world * B, ...]."""
        ctx.rows = slice(rank * len(values), (rank + 1) * len(values))
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(world)]
        dist.all_gather(parts, values)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """[world * B, ...] -> [B, ...]."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rows], None, None


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


def environment_number(name: str, default: int, least: int = 0) -> int:
    """A whole number of the environment; `default` where it is not set, or empty.

    TTDError for anything else and for numbers below `least`.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) < least:
        raise TTDError(
            f"{name}={text[:40]} in the environment is not a whole number from {least} on; "
            "unset it, or start the processes with torchrun"
        )
    return int(text)


def rank_and_world() -> tuple[int, int] | None:
    """(rank, number of processes) that the environment says, None where it names no rank.

    TTDError for numbers that are none or do not fit each other.
    """
    world = environment_number("WORLD_SIZE", 1, least=1)
    if not os.environ.get("RANK", "").strip():
        return None
    rank = environment_number("RANK", 0)
    if rank >= world > 1:
        raise TTDError(f"RANK={rank} and WORLD_SIZE={world} in the environment: ranks end before")
    return rank, world


def started_by_torchrun() -> bool:
    """Whether the environment says that this is one of several processes. TTDError: see above."""
    found = rank_and_world()
    return found is not None and found[1] > 1


def local_rank() -> int:
    """The number of this process on its machine. TTDError for one that is none."""
    return environment_number("LOCAL_RANK", environment_number("RANK", 0))


def _check_master() -> None:
    """TTDError unless the environment says where the processes meet."""
    if not os.environ.get("MASTER_ADDR", "").strip():
        raise TTDError("MASTER_ADDR is not set: start the processes with torchrun")
    if not 0 < environment_number("MASTER_PORT", 0) < 65536:
        raise TTDError("MASTER_PORT is no port (1-65535): start the processes with torchrun")


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """This process's `Ranks`, by torchrun's environment; gloo on the CPU, NCCL on CUDA."""
    if not started_by_torchrun():
        yield Ranks(device=device)
        return
    _check_master()
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "nccl"
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise TTDError(f"the processes of this run cannot meet ({reason})") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
