"""The training loop of every system: checkpoints, evaluation, an end when something goes wrong.

    with closing(Trainer(task)) as trainer:
        outcome = trainer.run()                 # resumes from OUT/checkpoint.pt where there is one

A step is: the micro-batches of its batch forward and backward (`Task.loss`), the mean of the
gradients over all processes, clipping, the update. Every random draw follows from (seed, step), so
on the CPU a run that was killed and started again ends with the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import copy
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.records import Skipped
from ..errors import TTDError
from ..utils.provenance import reproducible
from .batches import BatchSharding, Loaded, batches
from .distributed import PeerError, Ranks
from .log import TrainLog
from .optimizer import Update
from .run_dir import BEST, LAST, PREVIOUS, RunFolder, RunIdentity, check_folder
from .step import Gradients
from .task import Task
from .watch import StallWatch

Progress = Callable[[int, Mapping[str, float]], None]


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


class Trainer:
    """One run, in one of its processes. `step` counts the updates made."""

    def __init__(
        self,
        task: Task[Any, Any, Any],
        *,
        ranks: Ranks | None = None,
        overwrite: bool = False,
        dry_run: bool = False,
    ):
        """Take over the run's folder, and go back to where the run stopped, if it did.

        dry_run: leave the folder alone; `timed_steps` is all that such a trainer can do.
        TTDError: settings that do not fit the task or the number of processes, a folder of another
        run.
        """
        self.task, self.config = task, task.config
        self.ranks = ranks or Ranks(device=str(task.device))
        self.step = 0
        self.scores: dict[str, dict[str, Any]] = {}  # "before", "best", "last": step and scores
        self._folder: RunFolder | None = None
        self._log: TrainLog | None = None
        try:
            with self.ranks.together():
                self._prepare(overwrite, dry_run)
            self._check_agreement()
            self._resume(dry_run)
        except BaseException:
            self.close()
            raise

    def _prepare(self, overwrite: bool, dry_run: bool) -> None:
        task, config = self.task, self.config
        self.sharding = BatchSharding(
            config.batch, self.ranks.rank, self.ranks.world, config.grad_accum_steps
        )
        if config.grad_accum_steps > 1 and not task.exact_micro_batches:
            raise TTDError(
                f"--grad-accum-steps {config.grad_accum_steps}: {task.why_inexact}, so "
                "micro-batches would train something else; use more processes, or a smaller "
                "--batch"
            )
        run = RunIdentity(config.name, task.suffix, task.identity(), task.settings())
        if self.ranks.first and dry_run:
            check_folder(config.folder, run)
        elif self.ranks.first:
            self._folder = RunFolder(config.folder, run, overwrite)
        self.update = Update(task)
        self._gradients = Gradients(task, self.update, self.ranks)
        self._stall = StallWatch(config)
        self._skipped: list[Skipped] = list(task.source.skipped) if self.ranks.first else []
        if config.compile:
            _compile(task)

    def _check_agreement(self) -> None:
        """TTDError where the processes have other data or weights."""
        values = self.ranks.gather_objects(self.task.agreement())
        if any(value != values[0] for value in values):
            self.ranks.raise_any(
                TTDError(
                    f"the processes of this run have other {self.task.unit} or base weights: give "
                    "every machine the same data and weights"
                )
            )

    def _resume(self, dry_run: bool) -> None:
        """Take over the checkpoint, and the first process's values everywhere."""
        state = None
        with self.ranks.together():
            if self._folder:
                state = self._folder.checkpoint()
        state = self.ranks.broadcast_object(state)
        self._saved, self._earlier = 0, None
        if state:
            self._restore(state)
            self._saved, self._earlier = self.step, state["earlier"]
            self.scores = state["scores"]
        self.ranks.broadcast([parameter.data for parameter in self.update.named.values()])
        if self._folder:
            self._log = TrainLog(self._folder, self.step)
            self._count = self._folder.skip([])

    def _state(self) -> dict[str, Any]:
        """Where the run is: all that the next steps depend on."""
        return {
            "step": self.step,
            "task": self.task.state(),
            "update": self.update.state(),
            "stall": self._stall.state(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Go back to `_state()`."""
        self.step = state["step"]
        self.task.load(state["task"])
        self.update.load(state["update"])
        self._stall.load(state["stall"])

    @property
    def logs_to_board(self) -> bool:
        """Whether TensorBoard is installed and written to."""
        return bool(self._log and self._log.board)

    def run(
        self,
        progress: Progress = lambda step, values: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Train to the last step. progress: called after every step.

        should_stop: asked before each step, in every process; the run ends after that step.
        TTDError: the loss is not finite, `Task.health` gives a reason (the message names the last
        good export), the data cannot be read, the disk is full, another process failed.
        """
        with reproducible(self.task.device):
            if self.step == 0:
                if "before" not in self.scores:
                    self._evaluate("before")
                self._checkpoint()
            stopped = self._train(progress, should_stop)
        file = self.config.folder
        with self.ranks.together():
            if self._folder:
                file = self._finish(self._folder, stopped)
        return self._outcome(stopped, file)

    def timed_steps(self, count: int, seconds: float) -> list[float]:
        """Make up to `count` steps within about `seconds`, and take them back to the last bit.

        Returns the seconds of each. TTDError as from `run`.
        """
        state = copy.deepcopy(self._state())
        skipped = list(self._skipped)
        times: list[float] = []
        stream = batches(self.task, self.sharding, self.step, self.config.steps)
        with contextlib.closing(stream), reproducible(self.task.device):
            while self.step < self.config.steps and len(times) < count:
                start = time.perf_counter()
                self._update(stream, False)
                _synchronize(self.task.device)
                times.append(time.perf_counter() - start)
                if self.ranks.any(sum(times) > seconds)[0]:
                    break
        self._restore(state)
        self._skipped = skipped
        return times

    def close(self) -> None:
        """Close the log and give up the folder."""
        for part in (self._log, self._folder):
            if part is not None:
                part.close()

    def _train(self, progress: Progress, should_stop: Callable[[], bool]) -> bool:
        """All steps that are left; whether it was stopped before the last."""
        config = self.config
        stream = batches(self.task, self.sharding, self.step, config.steps)
        self._logged, self._since = time.monotonic(), self.step
        with contextlib.closing(stream):
            while self.step < config.steps:
                values, stop = self._update(stream, should_stop())
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    self._write_log(values)
                progress(self.step, values)
                evaluated = (self.step % config.eval_every == 0 or last) and self._evaluate("last")
                if evaluated or stop or last or self.step % config.checkpoint_every == 0:
                    self._checkpoint()
                if stop and not last:
                    return True
        return False

    def _update(self, stream: Iterator[Loaded[Any]], stop: bool) -> tuple[dict[str, float], bool]:
        """One step: what is logged of it, and whether any process wants to stop."""
        self.update.begin(self.step)
        means, skipped, stop = self._gradients.compute(self.step, stream, stop)
        self._skipped += skipped
        norm = self.update.clip()
        values = {**means, "grad_norm": norm, **self.update.rates(), **self.update.scaling()}
        self._check(values)
        if self.update.step(norm):
            self.task.after_step(self.step)
        self.step += 1
        return values, stop

    def _check(self, values: Mapping[str, float]) -> None:
        """TTDError naming the last good export when a step went wrong; nothing has changed yet."""
        reason = self.update.problem(values)
        window = 0
        if reason is None and not math.isfinite(values["grad_norm"]):
            return  # float16 overflowed: the update will be skipped, and the next one smaller
        if reason is None:
            reason = self.task.health(self.step, values)
            window = self.task.window
        if reason is None:
            reason = self._stall.update(self.step, values["loss"])
        if reason is None:
            return
        if self._log is None or self._folder is None:
            raise TTDError(reason) if self.ranks.first else PeerError(reason)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._log.write(self.step + 1, {**finite, "stopped": reason})
        raise TTDError(
            f"stopped at step {self.step + 1}: {reason}; {self._kept(self._folder, window)}; "
            f"try {self.task.advice}"
        )

    def _kept(self, folder: RunFolder, window: int) -> str:
        """Which export is the last good one, in words.

        What was exported within the last `window` steps may have the fault already.
        """
        name, good = LAST, self._saved
        if self.step - self._saved < window and self._earlier is not None:
            name, good = PREVIOUS, self._earlier
        kept = f"the last good {self.task.product} is {folder.export(name)} (step {good})"
        best = self.scores.get("best")
        return f"{kept}, the best {folder.export(BEST)} (step {best['step']})" if best else kept

    def _write_log(self, values: Mapping[str, float]) -> None:
        if self._log is None:
            return
        now = time.monotonic()
        rate = (self.step - self._since) * self.config.batch / max(1e-9, now - self._logged)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._log.write(self.step, {**finite, f"{self.task.unit}_per_s": round(rate, 2)})
        self._logged, self._since = now, self.step

    def _evaluate(self, name: str) -> bool:
        """Score the held-out data; export when it is the best. False where there are none."""
        if not self.task.evaluates:
            return False
        scores: dict[str, float] = {}
        with self.ranks.together():
            measured = self.task.evaluate(self.ranks)
            scores = {key: float(value) for key, value in measured.items()}
            if self._log:
                self._log.write(self.step, {**scores, "score": self.task.score(scores)}, "heldout")
        scores = self.ranks.broadcast_object(scores)
        self.scores[name] = {"step": self.step, "scores": scores}
        best = self.scores.get("best")
        better = best is None or self.task.score(scores) > self.task.score(best["scores"])
        if name != "before" and better:
            self.scores["best"] = {"step": self.step, "scores": scores}
            self._export(BEST)
        return True

    def _checkpoint(self) -> None:
        """Store where the run is, and the list of skipped samples of all processes."""
        lists = self.ranks.gather_objects(self._skipped)
        self._skipped = []
        with self.ranks.together():
            if self._folder:
                self._count = self._folder.skip(item for items in lists for item in items)
                self._store(self._folder)
        self._saved = self.step

    def _store(self, folder: RunFolder) -> None:
        if self.step > self._saved:
            newest = folder.export(LAST)
            folder.replace(folder.export(PREVIOUS), lambda part: shutil.copyfile(newest, part))
            self._earlier = self._saved
        self._export(LAST)
        folder.save({**self._state(), "earlier": self._earlier, "scores": self.scores})

    def _export(self, name: str) -> None:
        if self._folder:
            path = self._folder.export(name)
            self._folder.replace(path, lambda part: self.task.export(part, self.step))

    def _finish(self, folder: RunFolder, stopped: bool) -> Path:
        """The finished file, made of the best or the last export; the last when it was stopped."""
        if stopped:
            return folder.export(LAST)
        best = self.config.keep == "best" and "best" in self.scores
        chosen = folder.export(BEST if best else LAST)
        folder.replace(folder.finished, lambda part: shutil.copyfile(chosen, part))
        self.task.finish(folder.finished)
        return folder.finished

    def _outcome(self, stopped: bool, file: Path) -> Outcome:
        known = {name: value["scores"] for name, value in self.scores.items()}
        best_step = self.scores.get("best", {}).get("step")
        count = self._count if self._folder else 0
        return Outcome(self.step, stopped, file, count, best_step=best_step, **known)


def _compile(task: Task[Any, Any, Any]) -> None:
    """Compile the task's towers in place. TTDError where it has none."""
    towers = task.towers()
    if not towers:
        raise TTDError("compile: this system does not support compiled towers; leave it off")
    for tower in towers:
        tower.compile()


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
