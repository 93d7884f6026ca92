"""The training loop of every system: checkpoints, evaluation, an end when something goes wrong.

    with closing(Trainer(task)) as trainer:
        outcome = trainer.run()                 # resumes from OUT/checkpoint.pt where there is one

A step is: the micro-batches of its batch forward and backward (`Task.loss`), the mean of the
gradients over all processes, clipping, the update. Every random draw follows from (seed, step), so
on the CPU a run that was killed and started again ends with the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..data.records import Skipped
from ..errors import TTDError
from ..utils.provenance import reproducible
from .batches import BatchSharding, Loaded, batches
from .distributed import PeerError, Ranks
from .optimizer import Update
from .step import Gradients
from .storage.keeper import Keeper, Outcome
from .storage.run_dir import RunFolder, RunIdentity, check_folder
from .task import Task
from .watch import StallWatch

Progress = Callable[[int, Mapping[str, float]], None]


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

        dry_run: leave the folder alone; `timed_steps` is all that such a trainer is for.
        TTDError: settings that do not fit the task or the number of processes, a folder of another
        run.
        """
        self.task, self.config, self.dry_run = task, task.config, dry_run
        self.ranks = ranks or Ranks(device=str(task.device))
        self.step = 0
        self.keeper = Keeper(task, self.ranks, None)
        try:
            with self.ranks.together():
                self._prepare(overwrite)
            self._check_agreement()
            self._resume()
        except BaseException:
            self.close()
            raise

    def _prepare(self, overwrite: bool) -> None:
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
        inputs = task.inputs() if self.ranks.first else None
        fixed, settings = task.identity(), task.settings()
        run = RunIdentity(config.name, task.suffix, fixed, settings, inputs, config.LATER)
        if self.ranks.first and self.dry_run:
            check_folder(config.folder, run)
        elif self.ranks.first:
            self.keeper.folder = RunFolder(config.folder, run, overwrite)
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

    def _resume(self) -> None:
        """Take over the checkpoint, and the first process's values everywhere."""
        state = self.keeper.resume()
        if state:
            self._take_over(state)
            self.task.schedule_start = state["start"]
            self._stall.on = self._stall.on and not state["start"]  # it has moved before
        self.ranks.broadcast([parameter.data for parameter in self.update.named.values()])
        self.keeper.mend(self.step)
        self.keeper.open_log(self.step if state else None)

    def _take_over(self, state: Mapping[str, Any]) -> None:
        """`_restore` of a file. TTDError where it does not hold a state of this run."""
        try:
            self._restore(state)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            folder = self.keeper.folder
            raise folder.damaged(reason) if folder else PeerError(reason) from None

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
        return self.keeper.logs_to_board

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
                if "before" not in self.keeper.scores:
                    self.keeper.evaluate("before", 0)
                self._checkpoint()
            stopped = self._train(progress, should_stop)
        return self.keeper.finish(self.step, stopped)

    def timed_steps(self, count: int, seconds: float) -> list[float]:
        """Make up to `count` steps, none after `seconds`, and take them back to the last bit.

        Returns the seconds of each. TTDError as from `run`.
        """
        state = _snapshot(self._state())
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
        self.keeper.close()

    def _train(self, progress: Progress, should_stop: Callable[[], bool]) -> bool:
        """All steps that are left; whether it was stopped before the last."""
        config = self.config
        stream = batches(self.task, self.sharding, self.step, config.steps)
        self.keeper.start_clock(self.step)
        with contextlib.closing(stream):
            while self.step < config.steps:
                values, stop = self._update(stream, should_stop())
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    self.keeper.log(self.step, values)
                progress(self.step, values)
                evaluated = False
                if self.step % config.eval_every == 0 or last:
                    evaluated = self.keeper.evaluate("last", self.step)
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
        reason, window = self.update.problem(values), 0
        if reason is None and not math.isfinite(values["grad_norm"]):
            return  # float16 overflowed: the update will be skipped, and the next scale smaller
        if reason is None:
            reason, window = self.task.health(self.step, values), self.task.window
        if reason is None:
            reason = self._stall.update(self.step, values["loss"])
        if reason is not None:
            raise self.keeper.stop(self.step, values, reason, window)

    def _checkpoint(self) -> None:
        self.keeper.checkpoint(self.step, self._state(), self._skipped)
        self._skipped = []


def _compile(task: Task[Any, Any, Any]) -> None:
    """Compile the task's towers in place. TTDError where it has none."""
    towers = task.towers()
    if not towers:
        raise TTDError("compile: this system does not support compiled towers; leave it off")
    for tower in towers:
        tower.compile()


def _snapshot(value: Any) -> Any:
    """A copy of nested state, tensors on the CPU, where it does not count as the run's memory."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_snapshot(item) for item in value]
    return value


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
