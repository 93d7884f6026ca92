"""Any number of results over the same images: scores, and paired differences, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import TTDError
from ..metrics.bootstrap import DRAWS, SEED, Floats, Interval, interval, replicates
from ..utils.shown import first_few
from .runs import MEASURES, Run


@dataclass(frozen=True)
class Line:
    """A run's score of one measure, and its difference from the first run (None: it is that)."""

    name: str
    measure: str
    score: Interval
    change: Interval | None


@dataclass(frozen=True)
class Group:
    """Runs of one kind and set: what they are, over how many ids and images, and their scores.

    left: how many ids not all of them have, which are left out.
    """

    kind: str
    data: str
    ids: int
    images: int
    left: int
    lines: tuple[Line, ...]


def groups_of(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs that can be compared with each other, in their order."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.kind, run.data), []).append(run)
    return list(found.values())


def compare(
    runs: Sequence[Run], common: bool = False, draws: int = DRAWS, seed: int = SEED
) -> Group:
    """Runs of one kind and set, each against the first; the same images are drawn for all.

    TTDError where they are not of the same images, unless those that all have are asked for
    (`common`), and where there are none.
    """
    runs, left = same_ids(runs, common)
    first, lines = runs[0], []
    for measure, statistic in MEASURES[first.kind].items():
        drawn: dict[str, tuple[float, Floats]] = {}
        for run in runs:
            sums = run.by_image(measure)
            value = float(statistic(sums.sum(0, keepdims=True))[0])
            drawn[run.name] = value, replicates(sums, statistic, draws, seed)
            score = interval(*drawn[run.name])
            change = None
            if run is not first:
                change = _difference(drawn[run.name], drawn[first.name])
            lines.append(Line(run.name, measure, score, change))
    images = len(set(first.images))
    return Group(first.kind, first.data, len(first.ids), images, left, tuple(lines))


def same_ids(runs: Sequence[Run], common: bool) -> tuple[list[Run], int]:
    """The runs over the ids that all have, and how many ids were left out. Errors: `compare`."""
    shared = set(runs[0].ids).intersection(*(run.ids for run in runs[1:]))
    every = set().union(*(run.ids for run in runs))
    if shared == every:
        return list(runs), 0
    counts = ", ".join(f"{run.name}: {len(run.ids)}" for run in runs)
    if not shared:
        raise TTDError(f"not one image is in all of these ({counts}); compare them apart")
    if not common:
        some = first_few(sorted(every - shared), 3)
        raise TTDError(
            f"not of the same images ({counts}; {len(shared)} in all of them, not in all: {some}); "
            "--common compares those"
        )
    ids = sorted(shared)
    return [run.of(ids) for run in runs], len(every) - len(shared)


def _difference(now: tuple[float, Floats], before: tuple[float, Floats]) -> Interval:
    """A paired difference: draw by draw."""
    return interval(now[0] - before[0], now[1] - before[1])
