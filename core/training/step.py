"""The gradients of one step: its micro-batches backward, and their mean over all processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.records import Skipped
from ..errors import TTDError
from ..utils.memory import is_out_of_memory
from .batches import Loaded
from .distributed import Ranks
from .optimizer import Update
from .precision import products
from .task import NOISE, Step, Task


class Gradients:
    """Computes the gradients of a step into the parameters' `grad`, and the means for the log."""

    def __init__(self, task: Task[Any, Any, Any], update: Update, ranks: Ranks):
        self.task, self.update, self.ranks = task, update, ranks
        self.dtype = products(task.config.dtype, task.device)

    def compute(
        self, step: int, stream: Iterator[Loaded[Any]], stop: bool
    ) -> tuple[dict[str, float], list[Skipped], bool]:
        """Backward through a step, and average over the processes.

        Returns the means of `loss` and the task's values, what could not be read, and whether any
        process wants to `stop`. TTDError in every process when one of them fails.
        """
        skipped: list[Skipped] = []
        means: dict[str, Tensor] = {}
        error = None
        try:
            means = self._backward(step, stream, skipped)
            self._check_gradients()
        except TTDError as caught:
            error = caught
            if not self.task.exact_micro_batches:
                raise  # the others may be waiting inside the loss: torchrun ends them
        failed, stop = self.ranks.any(error is not None, stop)
        if failed:
            self.ranks.raise_any(error)
        return self._average(means), skipped, stop

    def _backward(
        self, step: int, stream: Iterator[Loaded[Any]], skipped: list[Skipped]
    ) -> dict[str, Tensor]:
        """Means over this process's micro-batches, scalars; their gradients are added up."""
        micros = self.task.config.grad_accum_steps
        context = Step(step, self.ranks, self.task.device, self.dtype)
        means: dict[str, Tensor] = {}
        for micro in range(micros):
            loaded = self._next(stream)
            skipped += loaded.skipped
            self._seed(step, micro)
            try:
                loss, values = self.task.loss(loaded.batch, context)
                self.update.backward(loss / micros)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise TTDError(
                    f"not enough memory for a step; use {self.task.memory_advice}"
                ) from None
            for name, value in {"loss": loss, **values}.items():
                scalar = torch.as_tensor(value, dtype=torch.float32, device=loss.device).detach()
                means[name] = means.get(name, 0) + scalar / micros
        return means

    def _next(self, stream: Iterator[Loaded[Any]]) -> Loaded[Any]:
        """The next micro-batch; all processes have theirs before a loss that talks to others."""
        if self.task.exact_micro_batches:
            return next(stream)
        with self.ranks.together():
            return next(stream)

    def _seed(self, step: int, micro: int) -> None:
        """What the loss draws follows from the run's seed, the step and the process alone."""
        key = (self.task.config.seed, NOISE, step, self.ranks.rank, micro)
        [seed] = np.random.SeedSequence(key).generate_state(1, np.uint64)
        torch.manual_seed(int(seed) >> 1)

    def _check_gradients(self) -> None:
        """TTDError when a parameter that is to be trained got no gradient."""
        trained = self.update.trained()
        without = [name for name, value in trained.items() if value.grad is None]
        if without:
            raise TTDError(
                f"{len(without)} parameters of the {self.task.product} get no gradient, such as "
                f"{without[0]}: {self.task.gradient_advice}"
            )

    def _average(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over all processes: of the gradients, in place, and of the scalars."""
        scalars = torch.stack(list(means.values()))
        gradients = [p.grad for p in self.update.trained().values() if p.grad is not None]
        self.ranks.average([*gradients, scalars])
        return dict(zip(means, scalars.tolist(), strict=True))
