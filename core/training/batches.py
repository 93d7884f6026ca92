"""Which samples a step sees, and reading them ahead in threads.

Nothing here remembers anything: which sample stands at which position of the run, and how it is
seen, follows from (seed, position) alone. A resumed run, and any sharding among processes and
micro-batches, sees the same.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from ..data.records import Skipped
from ..errors import TTDError
from ..utils.files import is_away
from ..utils.prefetch import prefetch_groups
from .task import ORDER, VIEW, Batch, Sample, Task
from .watch import UnreadableWatch

AHEAD = 2  # micro-batches in memory or on their way before the model asks for them
TRIES = 100  # samples in a row that cannot be read before it is the data's fault


@dataclass(frozen=True)
class BatchSharding:
    """How the `batch` samples of a step are shared among processes and micro-batches.

    TTDError when they do not divide.
    """

    batch: int
    rank: int = 0
    world: int = 1
    grad_accum_steps: int = 1

    def __post_init__(self) -> None:
        parts = self.world * self.grad_accum_steps
        if self.batch % parts:
            raise TTDError(
                f"a batch of {self.batch} cannot be shared by {self.world} processes x "
                f"{self.grad_accum_steps} accumulation steps: choose --batch as a multiple of "
                f"{parts}"
            )

    def positions(self, step: int, micro: int) -> range:
        """Positions in the stream of samples that are micro-batch `micro` of `step` here."""
        size = self.batch // (self.world * self.grad_accum_steps)
        start = step * self.batch + (micro * self.world + self.rank) * size
        return range(start, start + size)


class EpochShuffle:
    """The endless stream of samples: every epoch is another shuffle of all `count`.

    `shuffle[position]` is the number of the sample at a position. Not for several threads.
    """

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed
        self._shuffles: dict[int, npt.NDArray[np.int64]] = {}

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        if epoch not in self._shuffles:
            # At most two are held: reading ahead crosses from one epoch into the next.
            last = self._shuffles.get(epoch - 1)
            self._shuffles = {} if last is None else {epoch - 1: last}
            self._shuffles[epoch] = self._shuffle(epoch)
        return int(self._shuffles[epoch][place])

    def _shuffle(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng((self.seed, ORDER, epoch)).permutation(self.count)


@dataclass(frozen=True)
class Loaded(Generic[Batch]):
    """A micro-batch as the task collates it, and the samples that could not be read for it."""

    batch: Batch
    skipped: list[Skipped]


def batches(
    task: Task[Any, Sample, Batch], sharding: BatchSharding, start: int, stop: int
) -> Generator[Loaded[Batch], None, None]:
    """The micro-batches of steps `start` to `stop` (exclusive), in order, read in threads.

    There are `sharding.grad_accum_steps` of them in a step. TTDError: `TRIES` samples in a row
    cannot be read, or a larger share of the last ones than `unreadable_percent`.
    """
    watch = UnreadableWatch(task.config.unreadable_percent, task.unit)
    shuffle = EpochShuffle(len(task.source), task.config.seed)
    micros = sharding.grad_accum_steps
    parts = ((step, micro) for step in range(start, stop) for micro in range(micros))

    def submit(
        pool: ThreadPoolExecutor, part: tuple[int, int]
    ) -> tuple[int, list[Future[tuple[Sample, list[Skipped]]]]]:
        """Start reading the samples of one part of a step."""
        step = part[0]
        positions = sharding.positions(*part)
        futures = [pool.submit(read_sample, task, shuffle[at], step, at) for at in positions]
        return step, futures

    with closing(prefetch_groups(submit, parts, AHEAD, task.config.workers)) as groups:
        for step, pending in groups:
            results = [future.result() for future in pending]
            skipped = [item for _, items in results for item in items]
            watch.update(len(results), skipped)
            yield Loaded(task.collate([sample for sample, _ in results], step), skipped)


def read_sample(
    task: Task[Any, Sample, Any], number: int, step: int, position: int
) -> tuple[Sample, list[Skipped]]:
    """Sample `number`, or the first after it that can be read, and what was skipped before it.

    It is seen as (seed, position) decide. TTDError when `TRIES` in a row cannot be read.
    """
    source, skipped = task.source, []
    for attempt in range(min(TRIES, len(source))):
        place = (number + attempt) % len(source)
        try:
            raw = source.read(place)
        except (TTDError, OSError) as error:
            reason = " ".join(str(error).split())
            skipped.append(Skipped(*source.where(place), reason, is_away(error)))
            continue
        rng = np.random.default_rng((task.config.seed, VIEW, position))
        return task.transform(raw, step, rng), skipped
    raise TTDError(
        f"{len(skipped)} {task.unit} in a row cannot be read, the last: {skipped[-1].reason}"
    )
