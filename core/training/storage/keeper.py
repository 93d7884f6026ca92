"""What a run keeps: its log, scores, exports and checkpoints, written by the first process."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.records import Skipped
from ...errors import TTDError
from ...utils.finite import check_weights
from ..distributed import PeerError, Ranks
from ..task import Task
from .log import TrainLog
from .run_dir import BEST, LAST, PREVIOUS, RunFolder, digest


@dataclass(frozen=True)
class Outcome:
    """How a run ended. file: the finished one, or the last export when it was `stopped` on request.

    before, best, last: scores on the held-out set before training, of the best step and of the
    last one, where there is such a set; best_step: which that was; skipped: samples that could not
    be used.
    """

    step: int
    stopped: bool
    file: Path
    skipped: int
    before: dict[str, float] | None = None
    best: dict[str, float] | None = None
    best_step: int | None = None
    last: dict[str, float] | None = None


class Keeper:
    """The memory of a run, in one of its processes; all of them call the same methods.

    folder: the run's, in the first process; None elsewhere, and in a dry run. scores: "before",
    "best" and "last" with their "step" and "scores". saved: the step of the last checkpoint;
    earlier: of the one before. digests: of the exports `LAST` and `PREVIOUS`.

    The checkpoint decides: exports are moved to their places after it, so that the files of a run
    that was killed in between are those of this checkpoint or of the one before, and `mend` can
    tell which by their digests.
    """

    def __init__(self, task: Task[Any, Any, Any], ranks: Ranks, folder: RunFolder | None):
        self.task, self.ranks, self.folder = task, ranks, folder
        self.scores: dict[str, dict[str, Any]] = {}
        self.saved = 0
        self.earlier: int | None = None
        self.digests: dict[str, str] = {}
        self.skipped = 0
        self._log: TrainLog | None = None

    def resume(self) -> dict[str, Any] | None:
        """The checkpoint, in every process, or None for a fresh run. TTDError: damaged.

        Its "start" is the step that the schedule begins at.
        """
        state = None
        with self.ranks.together():
            if self.folder:
                state = self.folder.checkpoint()
                if state is not None and not _is_state(state):
                    raise self.folder.damaged("not a checkpoint of a training run")
                if state is not None:
                    state["start"] = self.folder.start
        state = self.ranks.broadcast_object(state)
        if state:
            self.saved, self.earlier = state["step"], state["earlier"]
            self.scores = state["scores"]
            self.digests = dict(state.get("exports", {}))
        return state

    def mend(self, step: int) -> None:
        """Bring the exports to the checkpoint's step, where a kill has left them behind it.

        Called after `resume`, when the task holds the checkpoint's state. TTDError: disk full.
        """
        with self.ranks.together():
            if self.folder and self.digests:
                self._mend(self.folder, step)

    def open_log(self, step: int | None) -> None:
        """Open the log, without what was written after `step`; None: an empty one."""
        if self.folder:
            self._log = TrainLog(self.folder, -1 if step is None else step)
            self.skipped = self.folder.skip([])
        self.start_clock(step or 0)

    def start_clock(self, step: int) -> None:
        """Samples per second count from here."""
        self._logged, self._since = time.monotonic(), step

    @property
    def logs_to_board(self) -> bool:
        """Whether TensorBoard is installed and written to."""
        return bool(self._log and self._log.board)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step that are finite, and the rate since the last line."""
        if self._log is None:
            return
        now = time.monotonic()
        samples = (step - self._since) * self.task.config.batch
        rate = samples / max(1e-9, now - self._logged)
        self._log.write(step, {**_finite(values), f"{self.task.unit}_per_s": round(rate, 2)})
        self.start_clock(step)

    def evaluate(self, name: str, step: int) -> bool:
        """Score the held-out data. False where there are none.

        name: "before" training, which is no candidate for the best, or "last": the checkpoint that
        follows exports the best.
        """
        if not self.task.evaluates:
            return False
        scores: dict[str, float] = {}
        with self.ranks.together():
            measured = self.task.evaluate(self.ranks)
            scores = {key: float(value) for key, value in measured.items()}
            if self._log:
                self._log.write(
                    step, _finite({**scores, "score": self.task.score(scores)}), "heldout"
                )
        scores = self.ranks.broadcast_object(scores)
        self.scores[name] = {"step": step, "scores": scores}
        best = self.scores.get("best")
        better = best is None or self.task.score(scores) > self.task.score(best["scores"])
        if name != "before" and better:
            self.scores["best"] = {"step": step, "scores": scores}
        return True

    def checkpoint(self, step: int, state: Mapping[str, Any], skipped: Sequence[Skipped]) -> None:
        """Store where the run is, and the skipped samples of all processes."""
        lists = self.ranks.gather_objects(list(skipped))
        with self.ranks.together():
            if self.folder:
                self.skipped = self.folder.skip(item for items in lists for item in items)
                self._store(self.folder, step, state)
        self.saved = step

    def stop(self, step: int, values: Mapping[str, float], reason: str, window: int) -> TTDError:
        """The error that ends a run at `step`: why, what is still good, what to try.

        window: steps before which the fault may have begun unnoticed.
        """
        if self.folder is None or self._log is None:
            return TTDError(reason) if self.ranks.first else PeerError(reason)
        self._log.write(step + 1, {**_finite(values), "stopped": reason})
        return TTDError(
            f"stopped at step {step + 1}: {reason}; {self._kept(self.folder, step, window)}; "
            f"try {self.task.advice}"
        )

    def finish(self, step: int, stopped: bool) -> Outcome:
        """Make the finished file of the best or the last export, and say how the run ended."""
        file = self.task.config.folder
        with self.ranks.together():
            if self.folder:
                file = self._finished(self.folder, stopped)
        known = {name: value["scores"] for name, value in self.scores.items()}
        best_step = self.scores.get("best", {}).get("step")
        return Outcome(step, stopped, file, self.skipped, best_step=best_step, **known)

    def close(self) -> None:
        """Close the log and give up the folder."""
        for part in (self._log, self.folder):
            if part is not None:
                part.close()

    def _kept(self, folder: RunFolder, step: int, window: int) -> str:
        """Which export is the last good one, in words."""
        name, good = LAST, self.saved
        if step - self.saved < window and self.earlier is not None:
            name, good = PREVIOUS, self.earlier
        kept = f"the last good {self.task.product} is {folder.export(name)} (step {good})"
        best = self.scores.get("best")
        if best is None:
            return kept
        return f"{kept}, the best {folder.export(BEST)} (step {best['step']})"

    def _store(self, folder: RunFolder, step: int, state: Mapping[str, Any]) -> None:
        newest = folder.export(LAST)
        check_weights(self.task.parameters(), newest)
        with folder.writing(newest) as part:
            self.task.export(part, step)
            if step > self.saved:
                self.earlier = self.saved
                self.digests[PREVIOUS] = self.digests.get(LAST, "")
            self.digests[LAST] = digest(part)
            more = {"earlier": self.earlier, "scores": self.scores, "exports": self.digests}
            folder.save({**state, **more})
            if step > self.saved and newest.is_file():
                folder.copy(newest, folder.export(PREVIOUS))
        self._keep_best(folder, step)

    def _keep_best(self, folder: RunFolder, step: int) -> None:
        """The newest export is the best one, too, where this step scored best."""
        if self.scores.get("best", {}).get("step") == step:
            folder.copy(folder.export(LAST), folder.export(BEST))

    def _mend(self, folder: RunFolder, step: int) -> None:
        newest, previous = folder.export(LAST), folder.export(PREVIOUS)
        found = digest(newest)
        if found != self.digests[LAST]:
            if found == self.digests.get(PREVIOUS):
                folder.copy(newest, previous)
            with folder.writing(newest) as part:
                self.task.export(part, step)
            self.digests[LAST] = digest(newest)
        if digest(previous) != self.digests.get(PREVIOUS, ""):
            self.earlier = None  # removed or changed by others: no message names it
        best = folder.export(BEST)
        if digest(best) != self.digests[LAST]:
            self._keep_best(folder, step)

    def _finished(self, folder: RunFolder, stopped: bool) -> Path:
        if stopped:
            return folder.export(LAST)
        best = self.task.config.keep == "best" and "best" in self.scores
        chosen = folder.export(BEST if best else LAST)
        folder.copy(chosen, folder.finished)
        self.task.finish(folder.finished)
        return folder.finished


def _is_state(state: Mapping[str, Any]) -> bool:
    """Whether the part of a checkpoint that `Keeper` wrote is what it writes."""
    step, earlier, scores = (state.get(name) for name in ("step", "earlier", "scores"))
    exports = state.get("exports", {})
    named = isinstance(exports, dict) and (not exports or LAST in exports)
    counted = isinstance(step, int) and isinstance(earlier, int | None)
    return counted and isinstance(scores, dict) and named and "earlier" in state


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
