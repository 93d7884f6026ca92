"""What a curriculum has done so far: one JSON file, from which any crash resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import TTDError
from ...utils.files import differences, read_json, write_json
from .pool import Pool
from .search import NOTHING

NAME = "curriculum_state.json"
MADE = ("trainings", "scores")  # beside it


@dataclass(frozen=True)
class Training:
    """A finished training. model: its file, relative to the curriculum's folder; None: too few
    labels to train on, and the performance is `search.NOTHING`."""

    pool: str
    phrases: int
    performance: float
    model: str | None
    seconds: float

    def row(self) -> dict[str, Any]:
        """As JSON, which knows no infinity."""
        known = None if self.model is None else self.performance
        return {
            "phrases": self.phrases,
            "performance": known,
            "model": self.model,
            "seconds": round(self.seconds, 1),
        }


class NotYet(Exception):
    """A pool that nothing is trained on so far."""


@dataclass(frozen=True)
class Replay:
    """`schedule.Lab` of what is known alone: raises `NotYet` where a training is missing."""

    trainings: Mapping[str, Training]

    def performance(self, pool: Pool) -> float:
        """Of the model trained on a pool."""
        if pool.name not in self.trainings:
            raise NotYet(pool.name)
        return self.trainings[pool.name].performance


class Ledger:
    """The finished trainings of a curriculum by the names of their pools."""

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        overwrite: bool = False,
        writes: bool = True,
    ):
        """Take over FOLDER/curriculum_state.json.

        identity: settings and sources; a state made from others is refused unless `overwrite`,
        which removes it with its trainings and what they measured. writes: only the first of
        several processes does. TTDError: that, or a damaged file.
        """
        self.path, self.identity, self._writes = folder / NAME, dict(identity), writes
        self.trainings: dict[str, Training] = {}
        self.chosen: dict[str, Any] = {}
        if not self.path.exists():
            return
        if not overwrite:
            self._load()
        elif writes:
            for name in MADE:
                shutil.rmtree(folder / name, ignore_errors=True)
            self.path.unlink()

    def _load(self) -> None:
        content = read_json(self.path)
        try:
            stored = dict((content or {})["made_with"])
            done = (content or {})["done"]
            self.trainings = {name: _training(name, row) for name, row in done.items()}
            self.chosen = dict((content or {})["chosen"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise TTDError(
                f"{self.path}: damaged; move it away: what is finished is found again in trainings/"
            ) from None
        ours = json.loads(json.dumps(self.identity))
        if found := differences(stored, ours):
            raise TTDError(
                f"{self.path} is of another curriculum ({'; '.join(found[:3])}); choose another "
                "--out or add --overwrite"
            )

    def add(self, training: Training) -> None:
        """Take note of a finished training, on disk at once."""
        self.trainings[training.pool] = training
        self.save()

    def save(self) -> None:
        """Write the file whole. TTDError when it cannot be written."""
        if not self._writes:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        done = {name: training.row() for name, training in self.trainings.items()}
        content = {"made_with": self.identity, "done": done, "chosen": self.chosen}
        write_json(self.path, content)


def _training(name: str, row: Mapping[str, Any]) -> Training:
    model = row["model"]
    performance = NOTHING if model is None else float(row["performance"])
    return Training(name, int(row["phrases"]), performance, model, float(row["seconds"]))
