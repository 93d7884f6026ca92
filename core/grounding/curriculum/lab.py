"""The laboratory of a curriculum: trains every pool once, measures every source once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...data.grounding import Phrase, PhraseList
from .ledger import Ledger, Training
from .pool import Pool, Values, as_list, phrases_of
from .search import NOTHING


@dataclass(frozen=True)
class Trained:
    """A trained model: its file, and its performance on what the curriculum is judged by."""

    model: Path
    performance: float


class Work(Protocol):
    """The costly part, for the real thing and for tests."""

    def train(self, folder: Path, labels: PhraseList) -> Trained:
        """Train from scratch on labels, in a folder of its own; resumes there."""
        ...

    def measure(self, model: Path, source: PhraseList, file: Path) -> Values:
        """Reliability [N] of a source by a model, kept in `file`."""
        ...


class CurriculumLab:
    """`schedule.Lab` on disk: FOLDER/trainings, FOLDER/scores, FOLDER/curriculum_state.json."""

    def __init__(
        self,
        folder: Path,
        sources: Mapping[str, PhraseList],
        ledger: Ledger,
        work: Work,
        fewest: int = 1,
        report: Callable[[Training], None] = lambda training: None,
    ):
        """fewest: labels below which nothing is trained; report: called after every training."""
        self.folder, self.sources, self.ledger = folder, sources, ledger
        self._work, self._fewest, self._report = work, max(1, fewest), report
        self._tables: dict[tuple[str, str], Values] = {}

    def performance(self, pool: Pool) -> float:
        """Of a model trained on a pool, now or before. TTDError as from a training."""
        known = self.ledger.trainings.get(pool.name)
        if known is None:
            known = self._train(pool)
            self.ledger.add(known)
            self._report(known)
        return known.performance

    def _train(self, pool: Pool) -> Training:
        labels = self.labels(pool)
        if len(labels) < self._fewest:
            return Training(pool.name, len(labels), NOTHING, None, 0.0)
        start = time.monotonic()
        folder = self.folder / "trainings" / pool.key
        trained = self._work.train(folder, as_list(folder, labels))
        model = trained.model.relative_to(self.folder).as_posix()
        seconds = time.monotonic() - start
        return Training(pool.name, len(labels), trained.performance, model, seconds)

    def reliability(self, measurer: Pool, source: str) -> Values:
        """Reliability [N] of a source by the model of a pool, which is trained if need be."""
        key = (measurer.name, source)
        if key not in self._tables:  # every threshold asks for it
            file = self.folder / "scores" / f"{measurer.key}__{source}.jsonl"
            model = self.model(measurer)
            self._tables[key] = self._work.measure(model, self.sources[source], file)
        return self._tables[key]

    def model(self, pool: Pool) -> Path:
        """The file of a pool's model."""
        self.performance(pool)
        return self.folder / str(self.ledger.trainings[pool.name].model)

    def labels(self, pool: Pool) -> list[Phrase]:
        """The labels of a pool."""
        return phrases_of(pool, self.sources, self.reliability)
