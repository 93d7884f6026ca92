"""Greedy search for the reliability threshold: hill climbing on the P-R curve (CLIP-VG, Fig. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...errors import TTDError

NOTHING = -math.inf  # the performance of a subset that is too small to train on


@dataclass(frozen=True)
class Climb:
    """The threshold that was found, its performance, and every one tried, in that order."""

    threshold: float
    performance: float
    tried: Mapping[float, float]


@dataclass(frozen=True)
class Grid:
    """Thresholds 0, delta, 2 delta, ... below 1, and where the search starts among them."""

    delta: float = 0.1
    start: float = 0.5

    def __post_init__(self) -> None:
        if not 0.01 <= self.delta <= 0.5 or not 0 <= self.start < 1:
            raise TTDError(
                f"delta {self.delta:g}, start {self.start:g}: delta must be from 0.01 to 0.5, the "
                "start from 0 to below 1"
            )
        if not math.isclose(self.first * self.delta, self.start, abs_tol=1e-9):
            raise TTDError(f"start {self.start:g}: must be a multiple of delta {self.delta:g}")

    @property
    def first(self) -> int:
        """The step that the search starts at."""
        return round(self.start / self.delta)

    @property
    def last(self) -> int:
        """The last step whose threshold is below 1."""
        return math.ceil(1 / self.delta - 1e-9) - 1

    def threshold(self, step: int) -> float:
        """The threshold of a step, without the noise of floating point."""
        return round(step * self.delta, 10)


def climb(performance: Callable[[float], float], grid: Grid | None = None) -> Climb:
    """Compare a threshold with its two neighbours and move to the better one until none is better.

    performance(threshold): of a model trained on what is more reliable; asked once a threshold.
    Of two neighbours that are both better the better one is taken, of equals the lower, which keeps
    more labels. Where the start leaves too few labels, the search begins at the highest threshold
    below it that does not. On a curve with one peak and no plateau this finds the best threshold of
    the grid.
    """
    grid = grid or Grid()
    tried: dict[int, float] = {}

    def value(step: int) -> float:
        """The performance at a step, `NOTHING` beyond the grid; each is asked once."""
        if not 0 <= step <= grid.last:
            return NOTHING
        if step not in tried:
            tried[step] = performance(grid.threshold(step))
        return tried[step]

    here = grid.first
    while value(here) == NOTHING and here > 0:
        here -= 1  # too few labels to train on: fewer are dropped below
    while True:
        best = max((here, here - 1, here + 1), key=value)
        if best == here:
            break
        here = best
    by_threshold = {grid.threshold(step): found for step, found in tried.items()}
    return Climb(grid.threshold(here), tried[here], by_threshold)
