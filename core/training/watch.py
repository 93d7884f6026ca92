"""What ends a run: a loss that stands still from the start, samples that cannot be read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from ..data.records import Skipped
from ..errors import UnreadableError
from .config import RunConfig

WINDOWS = 5  # the steps until the check are cut into so many; the first and last are compared
FEWEST = 200  # steps before which nothing can be said
LAST, LEAST = 1000, 100  # samples that the unreadable are a share of; fewest that say anything
MOVED = 0.01  # share of the first window's loss that counts as movement


class StallWatch:
    """Says once, after `stall_percent` of the steps, whether the loss has moved.

    It has when the means of the first and the last of `WINDOWS` windows differ by 1 %, or by two
    standard errors. Never before twice the warm-up or `FEWEST` steps.
    """

    def __init__(self, config: RunConfig):
        share = round(config.steps * config.stall_percent / 100)
        self.at = max(FEWEST, 2 * config.warmup, share)
        self.on = config.stall_percent > 0 and self.at <= config.steps
        self._sums = np.zeros((WINDOWS, 3))  # count, sum, sum of squares

    def update(self, step: int, loss: float) -> str | None:
        """Take in the loss of step `step` (from 0); the reason to stop in one line, else None."""
        if not self.on or step >= self.at:
            return None
        if math.isfinite(loss):  # a step that float16 overflowed in says nothing
            self._sums[step * WINDOWS // self.at] += (1, loss, loss * loss)
        return self._verdict() if step == self.at - 1 else None

    def _verdict(self) -> str | None:
        counts, sums, squares = self._sums[[0, -1]].T
        if not counts.all():
            return None
        first, last = sums / counts
        variances = np.maximum(0, squares / counts - (sums / counts) ** 2)
        error = float(np.sqrt((variances / counts).sum()))
        change = abs(last - first)
        if change > 2 * error or change > MOVED * abs(first):
            return None
        return f"the loss has not moved in {self.at} steps ({first:.4g} at first, {last:.4g} now)"

    def state(self) -> list[list[float]]:
        """Plain values for a checkpoint."""
        values: list[list[float]] = self._sums.tolist()
        return values

    def load(self, state: list[list[float]]) -> None:
        """Go back to `state()`."""
        self._sums = np.array(state)


class UnreadableWatch:
    """Ends a run when too many of its last samples could not be read: a disk or a server is away.

    What is damaged is not counted: that does not come back.
    """

    def __init__(self, percent: float, unit: str):
        """percent: the largest share of the last `LAST` samples. unit: what they are called."""
        self._percent, self._unit = percent, unit
        self._read: deque[bool] = deque(maxlen=LAST)

    def update(self, count: int, skipped: Sequence[Skipped]) -> None:
        """Take in `count` samples that were read, and what was skipped before them.

        UnreadableError when the share is too large.
        """
        lost = [item for item in skipped if item.retry]
        self._read.extend([False] * len(lost) + [True] * count)
        share = 100 * self._read.count(False) / max(1, len(self._read))
        if lost and len(self._read) >= LEAST and share > self._percent:
            raise UnreadableError(
                f"{share:.0f} % of the last {len(self._read)} {self._unit} could not be read, the "
                f"last {lost[-1].id} ({lost[-1].reason}); mend that and run the same command "
                "again, it resumes from the last checkpoint, or allow more with "
                "--set unreadable_percent=100"
            )
