"""Sharing the work of making masks among processes: who does what where, and running them."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core.errors import TTDError
from tools.cli import say
from tools.terminal import guard_terminal

Report = Callable[[str, Any], None]  # event ("begin", "step", "end") and what goes with it


@dataclass(frozen=True)
class Shard:
    """One process's share: every `world`-th image from `rank` on, and where it computes.

    token: names the run. threads: of torch, None = torch's own choice.
    """

    rank: int
    world: int
    device: str | None
    token: str
    threads: int | None = None


def plan(args: argparse.Namespace) -> list[Shard]:
    """The shards that this process runs: its own under torchrun, else one per GPU or worker."""
    gpus = _gpus(args)
    if os.environ.get("RANK", "").strip() and os.environ.get("WORLD_SIZE", "").strip():
        return [_torchrun_shard(gpus)]
    count = max(len(gpus), args.workers or 1)
    threads = max(1, cpus() // count) if count > 1 else None
    token = uuid.uuid4().hex
    return [Shard(rank, count, gpus[rank % len(gpus)], token, threads) for rank in range(count)]


def _torchrun_shard(gpus: Sequence[str | None]) -> Shard:
    """The share of a process that torchrun started. TTDError: its numbers are invalid."""
    from core.training.distributed import local_rank, rank_and_world

    rank, world = rank_and_world() or (0, 1)
    local = local_rank()
    keys = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    names = [os.environ.get(key, "") for key in keys]
    if os.environ.get("LOCAL_WORLD_SIZE") == str(world):  # one machine: torchrun's id is unique
        names.append(str(os.getppid()))
    return Shard(rank, world, gpus[local % len(gpus)], "torchrun " + " ".join(names))


def _gpus(args: argparse.Namespace) -> list[str | None]:
    """Devices to spread over, None = the default.

    --device, or those of --gpus, or all there are under torchrun.
    """
    if args.device is not None:
        return [args.device]
    numbers = [number for number in ",".join(args.gpus or []).split(",") if number]
    if not all(number.isdecimal() for number in numbers):
        raise TTDError(
            f"--gpus {' '.join(args.gpus)}: not GPU numbers; use --gpus 0 1, or --device cpu"
        )
    if not numbers and "RANK" not in os.environ:
        return [None]
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in numbers or range(torch.cuda.device_count())]
    if numbers and os.environ.get("RANK", "0") == "0":
        say(f"--gpus {' '.join(numbers)}: no GPU here, running on the CPU")
    return ["cpu"]


def cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_processes(
    work: Callable[[Shard, Report], None], shards: Sequence[Shard], report: Report
) -> None:
    """`work(shard, report)` in a process per shard; the first that fails ends all.

    work: can be pickled. Raises TTDError with what the one that failed said.
    """
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    workers = [
        context.Process(target=_child, args=(work, shard, events), daemon=True) for shard in shards
    ]
    with ignoring_interrupts():
        for worker in workers:
            worker.start()
    running = len(workers)
    try:
        while running:
            event, value = _next_event(events, workers)
            if event == "error":
                raise TTDError(value)
            report(event, value)
            running -= event == "end"
    finally:
        for worker in workers:
            worker.join(5 if running == 0 else 0)
            worker.terminate()


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Processes started in the block never see Ctrl-C: the one that started them ends them.

    The terminal sends it to all, and those that still import would print a traceback each.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _next_event(events: Any, workers: Sequence[Any]) -> tuple[str, Any]:
    """What a process reports next. TTDError when one died without a word."""
    import queue

    while True:
        try:
            event, value = events.get(timeout=0.5)
            return event, value
        except queue.Empty:
            codes = [worker.exitcode for worker in workers if worker.exitcode not in (None, 0)]
        if codes:
            raise TTDError(
                f"a process ended with exit code {codes[0]}, out of memory perhaps; the same "
                "command resumes where it stopped"
            )


def _child(work: Callable[[Shard, Report], None], shard: Shard, events: Any) -> None:
    """A shard in a process of its own, which ends with its parent and so gives up the lock."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    guard_terminal()
    try:
        work(shard, lambda event, value: events.put((event, value)))
    except TTDError as error:
        events.put(("error", str(error)))


def end_with_parent() -> None:
    """End this process when the one that started it does; for a thread of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
