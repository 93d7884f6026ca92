"""Training TTD: the loop over steps, with checkpoints, evaluation, and an end when something goes wrong.

    with closing(Trainer(config, backbone, pairs)) as trainer:
        outcome = trainer.run()                        # goes on from OUT/checkpoint.pt where there is one

A step is: the parts of its batch forward and backward (core/ttd_step.py), the mean of the gradients over all
processes, clipping, AdamW. Every random draw follows from (seed, step), so on the CPU a run that was killed and
started again ends with the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from core.backbones.base import Backbone
from core.collapse import CollapseMonitor
from core.distill import MapStatistics
from core.errors import TTDError
from core.lora import adapter_parameters, add_adapter, save_adapter
from core.lora_files import AdapterInfo, read_adapter, write_peft_folder
from core.lora_targets import lora_targets
from core.memory import is_out_of_memory
from core.pair_index import Pairs
from core.pamr import PAMR
from core.records import Skipped
from core.seed import seed_everything
from core.ttd_config import TTDConfig, identity, learning_rate, to_dict
from core.ttd_data import Augmentation, Batch, Split, batches
from core.ttd_ddp import PeerError, Ranks
from core.ttd_folder import BEST, LAST, PREVIOUS, RunFolder
from core.ttd_log import TrainLog
from core.ttd_step import STATISTICS, Distiller

GUARDS = ("pixel_f1", "caption_iou", "word_map_iou")  # reported together: each alone can lie
Evaluate = Callable[[Backbone], Mapping[str, float]]  # scores of the held-out set by name, `GUARDS` among them


@dataclass(frozen=True)
class Outcome:
    """How a run ended. adapter: the finished one, or the last checkpoint's when it was `stopped` on request.

    before, best, last: scores on the held-out set before training, of the best step and of the last one, where there
    is such a set; best_step: which that was; skipped: pairs that could not be used.
    """

    step: int
    stopped: bool
    adapter: Path
    skipped: int
    before: dict[str, float] | None = None
    best: dict[str, float] | None = None
    best_step: int | None = None
    last: dict[str, float] | None = None


def score(scores: Mapping[str, float]) -> float:
    """What the best adapter is chosen by: the harmonic mean of `GUARDS`, which one bad score of three pulls down.

    A score that could not be computed (NaN) is left out; without any the result is 0.
    """
    known = [scores[name] for name in GUARDS if not math.isnan(scores[name])]
    return len(known) / sum(1 / max(value, 1e-9) for value in known) if known else 0.0


class Trainer:
    """One run, in one of its processes. `step` counts the updates made."""

    def __init__(self, config: TTDConfig, backbone: Backbone, pairs: Pairs, *, ranks: Ranks | None = None,
                 evaluate: Evaluate | None = None, overwrite: bool = False):
        """Put a fresh adapter on `backbone` (float32, no adapter yet), and go back to where the run stopped, if it did.

        TTDError: settings that do not fit the model or the number of processes, a folder of another run.
        """
        self.config, self.backbone, self.pairs = config, backbone, pairs
        self.ranks, self.evaluate = ranks or Ranks(), evaluate
        self._folder: RunFolder | None = None
        self._log: TrainLog | None = None
        self.step, self.scores = 0, {}  # scores: "before", "best", "last" -> {"step", "scores"}
        try:
            with self.ranks.together():
                self._prepare(overwrite)
            self._resume()
        except BaseException:
            self.close()
            raise

    def _prepare(self, overwrite: bool) -> None:
        config, backbone = self.config, self.backbone
        self._split = Split(config.batch, self.ranks.rank, self.ranks.world, config.accumulate)
        self._view = Augmentation.of(config, backbone)
        fixed = {**identity(config), "pairs": self.pairs.digest, "base": backbone.checksum}
        self._info = AdapterInfo.of(backbone, fixed)
        pamr = PAMR(pictures=config.steps * config.batch)
        if config.distill.refine == "pamr":  # another path rounds otherwise: a run keeps to the one it began with
            fixed["pamr_kernel"] = pamr.kernel(backbone.device)
        if self.ranks.first:
            self._folder = RunFolder(config.folder, config.name, fixed, to_dict(config), overwrite)
        seed_everything(config.seed)  # A of the adapter is drawn
        add_adapter(backbone, lora_targets(backbone, config.lora.encoders, config.lora.targets), config.lora.rank,
                    config.lora.alpha)
        self._distiller = Distiller(backbone, config.distill, getattr(torch, config.dtype), pamr)
        self._parameters = list(adapter_parameters(backbone).values())
        self._optimizer = torch.optim.AdamW(self._parameters, lr=config.lr, weight_decay=config.weight_decay)
        self._monitor = CollapseMonitor()
        self._skipped: list[Skipped] = list(self.pairs.skipped) if self.ranks.first else []

    def _resume(self) -> None:
        """Take over the checkpoint, and the first process's values everywhere. TTDError: processes with other data."""
        if len(set(self.ranks.gather((self.pairs.digest, self._info.base_checksum)))) > 1:
            self.ranks.agree(TTDError("the processes of this run have other pairs or base weights: give every machine "
                                      "the same --data, --pruned and weights"))
        with self.ranks.together():
            own = self._folder.checkpoint() if self._folder else None
        state = self.ranks.gather(own)[0]
        if state:
            self._distiller.load(state["adapter"], state["average"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._monitor.restore(state["monitor"])
            self.step, self.scores = state["step"], state["scores"]
        self._saved, self._earlier = self.step, state.get("earlier") if state else None
        self.ranks.share([parameter.data for parameter in self._parameters])
        if self._folder:
            self._log = TrainLog(self._folder, self.step)
            self._count = self._folder.skip([])

    @property
    def logs_to_board(self) -> bool:
        """Whether TensorBoard is installed and written to."""
        return bool(self._log and self._log.board)

    def run(self, progress: Callable[[int, dict[str, float]], None] = lambda step, values: None,
            should_stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Train to the last step. `progress` hears of every step; `should_stop` is asked after each, in any process.

        TTDError: the loss is not finite, the maps collapse (the message names the last good adapter), the pictures
        cannot be read, the disk is full, another process failed.
        """
        with reproducible(self.backbone.device):
            if self.step == 0:
                if "before" not in self.scores:
                    self._evaluate("before")
                self._checkpoint()
            stopped = self._train(progress, should_stop)
        with self.ranks.together():
            adapter = self._finish(stopped) if self.ranks.first else self.config.folder
        known = {name: value["scores"] for name, value in self.scores.items()}
        return Outcome(self.step, stopped, adapter, self._count if self.ranks.first else 0, **known,
                       best_step=self.scores.get("best", {}).get("step"))

    def close(self) -> None:
        """Close the log and give up the folder."""
        for part in (self._log, self._folder):
            if part is not None:
                part.close()

    def _train(self, progress: Callable[[int, dict[str, float]], None], should_stop: Callable[[], bool]) -> bool:
        """All steps that are left; whether it was stopped before the last."""
        config = self.config
        stream = batches(self.pairs, self._view, self._split, config.seed, self.step, config.steps, config.workers)
        logged, since = time.monotonic(), self.step
        with contextlib.closing(stream):
            while self.step < config.steps:
                values, stop = self._update(stream, should_stop())
                last = self.step == config.steps
                if self._log and (self.step % config.log_every == 0 or last):
                    now = time.monotonic()
                    rate = (self.step - since) * config.batch / max(1e-9, now - logged)
                    self._log.write(self.step, {**values, "pairs_per_s": round(rate, 2)})
                    logged, since = now, self.step
                progress(self.step, values)
                evaluated = (self.step % config.eval_every == 0 or last) and self._evaluate("last")
                if evaluated or stop or last or self.step % config.checkpoint_every == 0:
                    self._checkpoint()
                if stop and not last:
                    return True
        return False

    def _update(self, stream: Iterator[Batch], stop: bool) -> tuple[dict[str, float], bool]:
        """One step: what is logged of it, and whether any process wants to stop."""
        rate = learning_rate(self.step, self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        totals, stop = self._exchange(*self._gradients(stream), stop)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self.config.clip))
        values = dict(zip(STATISTICS, totals.tolist(), strict=True)) | {"grad_norm": norm, "lr": rate}
        self._check(values)
        self._optimizer.step()
        self._distiller.follow()
        self.step += 1
        return values, stop

    def _gradients(self, stream: Iterator[Batch]) -> tuple[Tensor, TTDError | None]:
        """Backward through this process's parts of the step: means of `STATISTICS` [7], and what went wrong."""
        totals, parts = torch.zeros(len(STATISTICS)), self.config.accumulate
        try:
            for _ in range(parts):
                batch = next(stream)
                self._skipped += batch.skipped
                part = self._distiller.part(batch.images, batch.captions)
                (part.total / parts).backward()
                totals += part.statistics / parts
        except TTDError as error:
            return totals, error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return totals, TTDError("not enough memory for a step; use a larger --accumulate, or a smaller --batch or "
                                    "--image")
        return totals, None

    def _exchange(self, totals: Tensor, error: TTDError | None, stop: bool) -> tuple[Tensor, bool]:
        """Means over all processes: of the gradients, in place, and of `totals`. One's error or wish to stop is all's.
        """
        if self.ranks.world == 1:
            self.ranks.agree(error)
            self._check_gradients()
            return totals, stop
        if error is None:
            self._check_gradients()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        told = torch.tensor([*totals, error is not None, stop], dtype=torch.float32, device=self.backbone.device)
        flat = self.ranks.mean(torch.cat([*(gradient.flatten() for gradient in gradients), told]))
        totals, (failed, stop) = flat[-len(told) : -2].cpu(), (value > 0 for value in flat[-2:].tolist())
        if failed:
            self.ranks.agree(error)
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients] + [len(told)]), strict=False):
            gradient.copy_(mean.view_as(gradient))
        return totals, stop

    def _check_gradients(self) -> None:
        without = [name for name, value in adapter_parameters(self.backbone).items() if value.grad is None]
        if without:
            raise TTDError(f"{len(without)} parts of the adapter get no gradient, such as {without[0]}: choose other "
                           "--lora-targets or --encoders")

    def _check(self, values: dict[str, float]) -> None:
        """TTDError naming the last good adapter when a step went wrong; nothing has been changed by it yet."""
        strange = [name for name in ("loss", "grad_norm") if not math.isfinite(values[name])]
        statistics = MapStatistics(values["spread"], values["alike"], values["selected"])
        reason = f"{strange[0]} is {values[strange[0]]}" if strange else self._monitor.update(statistics)
        if reason is None:
            return
        if self._log is None or self._folder is None:
            raise PeerError(reason)
        self._log.write(self.step + 1, {name: value for name, value in values.items() if math.isfinite(value)}
                        | {"stopped": reason})
        best = self.scores.get("best")
        # A collapse is noticed some steps after it began: what was stored since may have it already.
        late = not strange and self.step - self._saved < self._monitor.window and self._earlier is not None
        name, good = (PREVIOUS, self._earlier) if late else (LAST, self._saved)
        kept = f"the last good adapter is {self._folder.path / name} (step {good})"
        kept += f", the best {self._folder.path / BEST} (step {best['step']})" if best else ""
        raise TTDError(f"stopped at step {self.step + 1}: {reason}; {kept}; try a lower --lr or --teacher frozen")

    def _evaluate(self, name: str) -> bool:
        """Score the held-out set on the first process; keep the adapter when it is the best. False without a set."""
        if self.evaluate is None:
            return False
        scores = None
        with self.ranks.together():
            if self._folder and self._log:
                scores = {key: float(value) for key, value in self.evaluate(self.backbone).items()}
                self._log.write(self.step, {**scores, "score": score(scores)}, "heldout")
        scores = self.ranks.gather(scores)[0]
        self.scores[name] = {"step": self.step, "scores": scores}
        best = self.scores.get("best")
        if name != "before" and (best is None or score(scores) > score(best["scores"])):
            self.scores["best"] = {"step": self.step, "scores": scores}
            self._save_adapter(BEST)
        return True

    def _checkpoint(self) -> None:
        """Store where the run is; the list of skipped pairs of all processes is brought up to date."""
        skipped = [item for items in self.ranks.gather(self._skipped) for item in items]
        self._skipped = []
        with self.ranks.together():
            if self._folder:
                self._count = self._folder.skip(skipped)
                if self.step > self._saved:
                    self._folder.replace(PREVIOUS, lambda part: shutil.copyfile(self._folder.path / LAST, part))
                    self._earlier = self._saved
                self._save_adapter(LAST)
                self._folder.save({"step": self.step, "earlier": self._earlier, "scores": self.scores,
                                   "average": self._distiller.average,
                                   "adapter": {name: value.detach() for name, value in
                                               self._distiller.parameters.items()},
                                   "optimizer": self._optimizer.state_dict(), "monitor": self._monitor.state()})
        self._saved = self.step

    def _save_adapter(self, name: str) -> None:
        if self._folder:
            info = replace(self._info, recipe={**self._info.recipe, "step": self.step})
            save_adapter(self.backbone, self._folder.path / name, info)

    def _finish(self, stopped: bool) -> Path:
        """The finished adapter's file, made of the best or the last one; the last one's when the run was stopped."""
        folder = self._folder
        if stopped:
            return folder.path / LAST
        chosen = folder.path / (BEST if self.config.keep == "best" and "best" in self.scores else LAST)
        folder.replace(folder.finished.name, lambda part: shutil.copyfile(chosen, part))
        if self.config.peft:
            state, info = read_adapter(chosen)
            write_peft_folder(state, folder.finished.with_suffix(""), info)
        return folder.finished


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """On the CPU, sums in a fixed order whatever the threads: the same command gives the same bytes."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
