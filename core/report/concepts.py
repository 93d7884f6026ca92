"""SA-Co's scores with their intervals: of every subset, of their mean, and of what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.phrases.saco import SubsetScores, average, drawn_scores
from ..metrics.bootstrap import Floats, Interval, interval
from ..metrics.concepts import DRAWN
from .parts.charts import percent, signed
from .parts.sections import change, difference, range_of, range_words

Drawn = tuple[Interval, Floats]  # a score with its interval, and that of every draw
Card = tuple[str, str, str]  # name, value, what stands below it
NOTE = (
    f"Of {', '.join(DRAWN)} the images of each subset are drawn by themselves, an image with all "
    "its phrases. A draw in which every phrase is there, or none, has an IL_MCC of 0, as the "
    "evaluator counts it."
)


@dataclass(frozen=True)
class Row:
    """A subset, or the mean of all: its name, and its scores in the order of `DRAWN`."""

    name: str
    scores: Sequence[Drawn]


@dataclass(frozen=True)
class Concepts:
    """What a report says of cgF1 and its two factors.

    labels: what the scores are called. now, before: a row for each subset, and of several one for
    their mean; before is empty without an earlier result, which is called `earlier`.
    """

    labels: Sequence[str]
    now: Sequence[Row]
    before: Sequence[Row]
    earlier: str

    def cards(self) -> list[Card]:
        """The scores of the whole, and how cgF1 has changed."""
        whole = self.now[-1]
        of = f"{whole.name}; " if len(self.now) > 1 else ""
        cards = []
        for label, (own, _) in zip(self.labels, whole.scores, strict=True):
            cards.append((f"{label}, %", percent(own.value), of + range_words(own)))
        if self.before:
            _, value, words = change(whole.scores[0], self.before[-1].scores[0], self.earlier)
            cards.insert(1, (f"change of {self.labels[0]}, points", value, words))
        return cards

    def table(self) -> list[list[str]]:
        """`54.1 (53.0 to 55.2)` of every row; the head first."""
        head = ["95 % interval, %", *self.labels]
        rows = []
        for row in self.now:
            cells = [f"{percent(own.value)} ({range_of(own)})" for own, _ in row.scores]
            rows.append([row.name, *cells])
        if self.before:
            head.append(f"change of {self.labels[0]}, points, against {self.earlier}")
            for cells, now, old in zip(rows, self.now, self.before, strict=True):
                own = difference(now.scores[0], old.scores[0])
                cells.append(f"{signed(own.value)} ({range_of(own, signed)})")
        return [head, *rows]


def concepts_of(
    subsets: Sequence[SubsetScores], before: Sequence[SubsetScores] = (), earlier: str = ""
) -> Concepts:
    """The scores of a result, and of the earlier one over the same subsets in the same order."""
    semantic = all(one.semantic for one in subsets)
    labels = ["cgF1 semantic" if semantic else "cgF1", *DRAWN[1:]]
    return Concepts(labels, _rows(subsets), _rows(before) if before else [], earlier)


def _rows(subsets: Sequence[SubsetScores]) -> list[Row]:
    drawn = drawn_scores(subsets)
    scores = [one.official for one in subsets]
    names = [one.name for one in subsets]
    if len(subsets) > 1:
        names.append(f"mean of {len(subsets)} subsets")
        scores.append(average(subsets))
        drawn.append(np.mean(drawn, axis=0))
    rows = []
    for name, values, own in zip(names, scores, drawn, strict=True):
        found = [(interval(values[key], own[:, k]), own[:, k]) for k, key in enumerate(DRAWN)]
        rows.append(Row(name, found))
    return rows
