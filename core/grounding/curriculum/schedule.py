"""The schedulers: self-paced adaptation from a single source (SSA) and from several (MSA).

Reconstructed from CLIP-VG's paper (arXiv 2305.08685, Fig. 3, Algorithm 1 and 2); the authors
published the measurement of reliability only. What training and measuring are is given by a `Lab`,
so that both run on a synthetic curve as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...errors import TTDError
from .pool import Pool, whole
from .search import NOTHING, Climb, Grid, climb


class Lab(Protocol):
    """Trains and measures; never twice for the same pool."""

    def performance(self, pool: Pool) -> float:
        """Of a model trained from scratch on a pool; `search.NOTHING` for too small a pool."""
        ...


@dataclass(frozen=True)
class Step:
    """How one source was taken up.

    measurers: performance by the measurer's name at the starting threshold; climb: the search with
    the best of them. taken: False where the source was left out.
    """

    source: str
    measurers: Mapping[str, float]
    chosen: str
    climb: Climb
    taken: bool = True


@dataclass(frozen=True)
class Outcome:
    """The final pool, its performance, that of every whole source, and every step."""

    pool: Pool
    performance: float
    alone: Mapping[str, float]
    steps: tuple[Step, ...] = field(default_factory=tuple)


def adapt_single(lab: Lab, source: str, grid: Grid | None = None, rounds: int = 1) -> Outcome:
    """SSA: measure a source by the model trained on it, and keep what is reliable.

    rounds: how often the model of the chosen labels becomes the next measurer; 1 as published.
    """
    if rounds < 1:
        raise TTDError(f"rounds {rounds}: must be at least 1")
    measurer = whole(source)
    alone = {source: lab.performance(measurer)}
    steps = []
    for _ in range(rounds):
        found = _search(lab, Pool(), source, measurer, grid)
        steps.append(Step(source, {measurer.name: found.performance}, measurer.name, found))
        measurer = Pool().with_part(source, measurer, found.threshold)
    return Outcome(measurer, steps[-1].climb.performance, alone, tuple(steps))


def adapt_multiple(
    lab: Lab, sources: Sequence[str], grid: Grid | None = None, leave_out: bool = False
) -> Outcome:
    """MSA: take up the sources one after the other, from simple to complex.

    Each by the measurer, a model of one whole source, that serves best at the starting threshold
    together with what was taken up before, and then by the best threshold with that measurer.
    leave_out: a source that lowers the performance even so is not taken (ours; published: all are).
    """
    if len(set(sources)) != len(sources) or not sources:
        raise TTDError("the sources must be different, and at least one")
    grid = grid or Grid()
    measurers = [whole(source) for source in sources]
    alone = {pool.name: lab.performance(pool) for pool in measurers}
    pool, reached, steps = Pool(), NOTHING, []
    for source in sources:
        at_start = {
            by.name: lab.performance(pool.with_part(source, by, grid.threshold(grid.first)))
            for by in measurers
        }
        best = max(measurers, key=lambda by: at_start[by.name])
        found = _search(lab, pool, source, best, grid)
        taken = not leave_out or not pool.parts or found.performance >= reached
        steps.append(Step(source, at_start, best.name, found, taken))
        if taken:
            pool, reached = pool.with_part(source, best, found.threshold), found.performance
    return Outcome(pool, reached, alone, tuple(steps))


def _search(lab: Lab, pool: Pool, source: str, by: Pool, grid: Grid | None) -> Climb:
    return climb(lambda threshold: lab.performance(pool.with_part(source, by, threshold)), grid)


def trainings(sources: int, algorithm: str, grid: Grid | None = None) -> tuple[int, int]:
    """The least and the most trainings that an algorithm can need.

    SSA: one for the source, and 3 thresholds or all. MSA: one for every source; then, for every
    source, one for every measurer at the starting threshold, and 2 more thresholds or all the
    others.
    """
    grid = grid or Grid()
    neighbours = (grid.first > 0) + (grid.first < grid.last)
    # A climb moves one way: it never sees both what is below and what is above its start's
    # neighbours.
    most = max(grid.first + (grid.first < grid.last), grid.last - grid.first + (grid.first > 0))
    if algorithm == "ssa":
        return 1 + 1 + neighbours, 1 + 1 + most
    return sources * (1 + sources + neighbours), sources * (1 + sources + most)
