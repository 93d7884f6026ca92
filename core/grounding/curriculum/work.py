"""The costly part of a curriculum: training a grounding model, and measuring with it."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import mean

from ...backbones.base import Backbone
from ...data.grounding import PhraseList
from ...training.distributed import Ranks
from ...training.storage.keeper import Outcome
from ...training.trainer import Trainer
from ..predict import Grounder, load_grounder
from ..run_config import GroundingConfig, in_steps
from ..task import GroundingTask
from .lab import Trained
from .pool import Values
from .reliability import measure

Progress = Callable[[int, Mapping[str, float]], None]


class Stopped(Exception):
    """The user asked for an end; everything that is finished is on disk."""


class GroundingWork:
    """`lab.Work` with the trainer of every system.

    judge: the labels that a model's performance is measured on: Acc@0.5 after the last step.
    """

    def __init__(
        self,
        config: GroundingConfig,
        backbone: Backbone,
        judge: PhraseList,
        images: Sequence[PhraseList],
        ranks: Ranks | None = None,
        progress: Progress = lambda step, values: None,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        """images: lists whose images the feature cache holds, for all trainings together."""
        self.config, self.backbone, self.judge = config, backbone, judge
        self._images, self._ranks = images, ranks or Ranks()
        self._progress, self._should_stop = progress, should_stop

    def with_seed(self, seed: int) -> GroundingWork:
        """The same work, with another seed of its trainings."""
        other = copy.copy(self)
        other.config = replace(self.config, seed=seed)
        return other

    def train(self, folder: Path, labels: PhraseList) -> Trained:
        """Train from scratch; a training that was stopped resumes. `Stopped` on request."""
        with closing(self._trainer(folder, labels)) as trainer:
            outcome = trainer.run(self._progress, self._should_stop)
        if outcome.stopped:
            raise Stopped
        return Trained(outcome.file, performance(outcome))

    def seconds_a_step(self, folder: Path, labels: PhraseList, count: int = 3) -> float:
        """Of `count` steps that are timed and taken back; infinity where none could be made."""
        with closing(self._trainer(folder, labels, dry_run=True)) as trainer:
            times = trainer.timed_steps(count, 60.0)
        return mean(times[1:] or times) if times else math.inf  # the first one warms up

    def _trainer(self, folder: Path, labels: PhraseList, dry_run: bool = False) -> Trainer:
        config = replace(self.config, out=str(folder), tag="model", data=str(labels.place))
        config = in_steps(config, len(labels))
        # Training may change the image position table: each begins with the base's own.
        backbone = copy.deepcopy(self.backbone)
        task = GroundingTask(config, backbone, [labels], [self.judge], self._images)
        return Trainer(task, ranks=self._ranks, dry_run=dry_run)

    def measure(self, model: Path, source: PhraseList, file: Path) -> Values:
        """Reliability [N] of a source by a model, kept in `file`."""
        checksum = hashlib.sha256(model.read_bytes()).hexdigest()[:16]

        def grounder() -> Grounder:
            """The measurer, loaded only if something is left to measure."""
            return load_grounder(model, arch=self.config.arch, device=self.backbone.device)

        batch = self.config.eval_batch
        return measure(grounder, source, file, checksum, self._ranks, batch).reliability


def performance(outcome: Outcome) -> float:
    """Acc@0.5 of the last step, as the schedules compare it."""
    scores = outcome.last or outcome.best or {}
    return float(scores["acc@0.5"])
