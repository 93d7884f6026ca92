"""Processes of this machine: each asks for the next shard; one that dies is replaced.

One process is this one. A shard whose process died goes to another, at most `DEATHS` times: then
the shard is at fault (it needs more memory than there is) and is reported as failed.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from core.errors import TTDError
from core.labelling.places import Output
from core.labelling.settings import Settings
from core.labelling.shard import STOPPED, Report, Shard, Worker, list_failed
from tools.mask_shards import end_with_parent, ignoring_interrupts

DEATHS = 3  # of processes over one shard
WORD = "start"  # what a process says first


def run_here(
    shards: Sequence[Shard],
    settings: Settings,
    out: str,
    overwrite: bool = False,
    kind: type[Worker] = Worker,
) -> Iterator[Report]:
    """The shards one after the other in this process."""
    worker = kind(settings, out, overwrite)
    for shard in shards:
        yield worker(shard)


def run_local(
    shards: Sequence[Shard],
    settings: Settings,
    out: str,
    devices: Sequence[str | None],
    overwrite: bool = False,
    kind: type[Worker] = Worker,
) -> Iterator[Report]:
    """The shards in a process for each of `devices`, in the order in which they are finished.

    kind: of workers, for measurements.
    """
    count = min(len(devices), len(shards))
    if count <= 1:
        own = replace(settings, device=devices[0] if devices else settings.device)
        yield from run_here(shards, own, out, overwrite, kind)
        return
    pool = _Pool(settings, (out, overwrite, kind))
    try:
        for device in devices[:count]:
            pool.start(device)
        yield from pool.run(deque(shards))
    finally:
        pool.end()


class _Pool:
    """The processes and what each is working on."""

    def __init__(self, settings: Settings, more: tuple[str, bool, type[Worker]]) -> None:
        """more: output, whether labels of other settings are replaced, the kind of workers."""
        self._settings, self._out, self._more = settings, more[0], more
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, Any] = {}
        self._devices: dict[Connection, str | None] = {}
        self._work: dict[Connection, Shard | None] = {}
        self._deaths: dict[str, int] = {}
        self._idle_deaths = 0
        self._lost = 0  # shards that processes died over since one was done

    def start(self, device: str | None) -> None:
        """One more process."""
        ours, theirs = self._context.Pipe()
        settings = replace(self._settings, device=device)
        process = self._context.Process(
            target=_serve, args=(theirs, settings, *self._more), daemon=True
        )
        with ignoring_interrupts():
            process.start()
        theirs.close()
        self._processes[ours], self._devices[ours], self._work[ours] = process, device, None

    def run(self, todo: deque[Shard]) -> Iterator[Report]:
        """Hand out shards until all are reported. TTDError: processes die before they begin."""
        while todo or any(self._work.values()):
            for pipe in wait(list(self._processes)):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    yield from self._died(pipe, todo)
                    continue
                if message != WORD:
                    self._work[pipe], self._lost = None, 0
                    yield message
                if todo:
                    self._give(pipe, todo)

    def _give(self, pipe: Connection, todo: deque[Shard]) -> None:
        shard = todo.popleft()
        self._work[pipe] = shard
        with suppress(OSError):  # it died: its end of the pipe says so next
            pipe.send(shard)

    def _died(self, pipe: Connection, todo: deque[Shard]) -> Iterator[Report]:
        """Replace a process; its shard goes back to the queue, or is reported as failed."""
        process, device = self._processes.pop(pipe), self._devices.pop(pipe)
        shard = self._work.pop(pipe)
        process.join()
        pipe.close()
        if shard is None:
            self._idle_deaths += 1
        else:
            count = self._deaths[shard.name] = self._deaths.get(shard.name, 0) + 1
            if count == DEATHS:
                self._lost += 1
                reason = f"{DEATHS} processes died over it (exit code {process.exitcode})"
                yield list_failed(Output(self._out), shard, reason)
            else:
                todo.appendleft(shard)
        if DEATHS in (self._idle_deaths, self._lost):
            what = "over every shard" if self._lost == DEATHS else "before they begin"
            raise TTDError(
                f"processes end {what} (exit code {process.exitcode}), out of memory perhaps: use "
                "fewer --workers"
            )
        if todo:
            self.start(device)

    def end(self) -> None:
        """No process is left behind."""
        for pipe, process in self._processes.items():
            with suppress(OSError):
                pipe.send(None)
            if self._work[pipe] is not None:  # the run was stopped: nobody waits for this shard
                process.terminate()
        for process in self._processes.values():
            process.join(5)
            process.kill()


def _serve(
    pipe: Connection, settings: Settings, out: str, overwrite: bool, kind: type[Worker]
) -> None:
    """A process: shards in, reports out, until None comes. It ends with its parent."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    worker = kind(settings, out, overwrite)
    pipe.send(WORD)
    while True:
        shard = pipe.recv()
        if shard is None:
            return
        try:
            report = worker(shard)
        except Exception as error:  # a bug; the run ends and says where
            reason = f"unexpected {type(error).__name__}: {error}"
            report = Report(shard.name, STOPPED, reason=reason)
        pipe.send(report)
