"""A loss that stands still from the start: the sign of a rate, a batch or data that do not fit."""

from __future__ import annotations

import math

import numpy as np

from .config import RunConfig

WINDOWS = 5  # the steps until the check are cut into so many; the first and last are compared
FEWEST = 200  # steps before which nothing can be said
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
