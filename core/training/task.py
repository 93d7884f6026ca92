"""What a system must bring to be trained: the one class that its author writes.

The trainer (core/training/trainer.py) knows steps, gradients, processes, checkpoints, logs,
evaluation and stopping. It knows nothing of what is trained. A new system is one short file:

    class Regression(Task[tuple[float, float], tuple[float, float], Tensor]):
        unit = "points"

        def __init__(self, config: RunConfig, points: Source[tuple[float, float]]):
            super().__init__(config, torch.device("cpu"))
            self.points, self.slope = points, nn.Parameter(torch.zeros(()))

        @property
        def source(self):
            return self.points

        def parameters(self):
            return {"slope": self.slope}

        def transform(self, raw, step, rng):
            return raw

        def collate(self, samples, step):
            return torch.tensor(samples)                                  # [B, 2]

        def loss(self, batch, step):
            x, y = batch.unbind(1)
            return (self.slope * x - y).square().mean(), {}

    with closing(Trainer(Regression(RunConfig(steps=100), points))) as trainer:
        trainer.run()

Everything else has a default that is right for a simple system; override what differs.

Where random numbers come from, so that a resumed run sees what an uninterrupted one would:
what concerns one sample from the `rng` given to `transform`; what all samples of a step share from
`step_rng`; what the loss draws (dropout, Gumbel noise) from torch's global generator, which the
trainer seeds before every micro-batch. Nothing may be drawn anywhere else.

What the loss of a step means with several processes: the trainer averages losses and gradients
over the processes. A loss that is a mean over samples needs nothing. A loss that compares samples
with each other (contrastive) gathers the others' embeddings with `step.ranks.all_gather`, computes
the loss of the whole batch, and says `exact_micro_batches = False`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.inputs.table import Inputs
from ..data.records import Skipped
from ..utils.config import plain
from ..utils.tensors.tensor_files import save_safetensors
from .config import RunConfig, identity
from .distributed import Ranks
from .precision import settled
from .schedules import learning_rate

Raw = TypeVar("Raw")  # a sample as the source reads it
Raw_co = TypeVar("Raw_co", covariant=True)
Sample = TypeVar("Sample")  # a sample as the model sees it
Batch = TypeVar("Batch")  # samples of one micro-batch, collated

ORDER, VIEW, SCALE, NOISE = range(4)  # what a draw is for: the first number behind the seed


class Source(Protocol[Raw_co]):
    """Numbered training samples, any of them at once, from any thread.

    digest: changes with the content, not with where it lies. skipped: samples known to be unusable
    before any was read. descriptions: a line about each input.
    """

    @property
    def digest(self) -> str:
        """What tells these data from others."""

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What the inputs hold and nobody can use, with reasons."""

    @property
    def descriptions(self) -> Sequence[str]:
        """A line about each input."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> Raw_co:
        """Sample `number` in [0, len). TTDError or OSError: unreadable; the next is taken."""

    def where(self, number: int) -> tuple[int, str]:
        """The sample's number and id in the user's own data, for the list of skipped ones."""


@dataclass(frozen=True)
class Group:
    """Parameters that are treated alike in a step, by their names in `Task.parameters`.

    frozen: no gradient, no update, no weight decay; the optimizer's state of these parameters is
    kept for when they are thawed.
    """

    name: str
    parameters: tuple[str, ...]
    lr: float
    weight_decay: float = 0.0
    frozen: bool = False


@dataclass(frozen=True)
class Step:
    """The step that a loss belongs to. number: updates made before it.

    ranks: the processes of the run. dtype: of matrix products inside `autocast`.
    """

    number: int
    ranks: Ranks
    device: torch.device
    dtype: torch.dtype = torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        """For towers: matrix products in `dtype`; outside of it everything is float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


class Task(ABC, Generic[Raw, Sample, Batch]):
    """One system: its data, its loss, its parameters. See the module's docstring.

    Class attributes describe it to people and to the trainer:
        unit: what a sample is called, in the plural. product: what a run makes.
        suffix: ending of the exported files. advice: what to try when a run is stopped.
        memory_advice: what to try when memory runs out. gradient_advice: when a parameter gets no
        gradient. window: steps that `health` looks back over; exports from within them may be
        affected already.
        exact_micro_batches: whether the loss of a batch is the mean of the losses of its equal
        parts; why_inexact says why not. Where it is not, gradient accumulation is refused, and
        `loss` may talk to the other processes.
        evaluates: whether `evaluate` measures anything.
        schedule_start: the step that the schedule of the rates begins at; the trainer sets it
        where a finished run is extended.
    """

    unit: ClassVar[str] = "samples"
    product: ClassVar[str] = "model"
    suffix: ClassVar[str] = ".safetensors"
    advice: str = "a lower --lr"
    memory_advice: str = "a larger --grad-accum-steps, or a smaller --batch"
    gradient_advice: str = "leave them out of parameters(), or freeze their group"
    window: int = 0
    exact_micro_batches: bool = True
    why_inexact: str = ""
    evaluates: bool = False
    schedule_start: int = 0

    def __init__(self, config: RunConfig, device: torch.device):
        """device: where the batches and the parameters are.

        `self.config` names the number type that `auto` stands for there.
        """
        self.config, self.device = settled(config, device), device

    @property
    @abstractmethod
    def source(self) -> Source[Raw]:
        """The training samples."""

    @abstractmethod
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Everything that is trained in any phase, by name, always in the same order."""

    @abstractmethod
    def transform(self, raw: Raw, step: int, rng: np.random.Generator) -> Sample:
        """A sample as it is seen in `step`. rng: its own stream, by (seed, position in the run).

        Called in threads: it must not change the task.
        """

    @abstractmethod
    def collate(self, samples: Sequence[Sample], step: int) -> Batch:
        """The batch of one micro-batch's samples, on the CPU. Called in the main thread."""

    @abstractmethod
    def loss(self, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """The loss, a float32 scalar with its graph, and scalars for the log, always the same.

        Their means over micro-batches and processes are logged beside `loss`. Collective calls
        are allowed only where `exact_micro_batches` is False.
        """

    def groups(self, step: int) -> list[Group]:
        """The parameter groups of a step: the same names and members in every step.

        Here one, by the settings. Phases: return another `frozen` from some step on.
        """
        rate = learning_rate(step, self.config, self.schedule_start)
        return [Group("all", tuple(self.parameters()), rate, self.config.weight_decay)]

    def optimizers(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        """The optimizers of torch's parameter groups, which carry "name", "lr", "weight_decay".

        Here one AdamW with torch's defaults. The trainer sets both rates before every step.
        """
        return [torch.optim.AdamW(groups)]

    def towers(self) -> Sequence[nn.Module]:
        """The modules that the setting `compile` compiles; none: the setting is refused."""
        return ()

    def step_rng(self, step: int) -> np.random.Generator:
        """What all samples of a step share is drawn from this, such as the size of the images."""
        return np.random.default_rng((self.config.seed, SCALE, step))

    def after_step(self, step: int) -> None:
        """Called after update number `step` (from 0): the place for an EMA, or a clamp."""

    def health(self, step: int, values: Mapping[str, float]) -> str | None:
        """Why the run must stop, by the logged values of step `step`; None when all is well.

        Called before the update is made. NaN and a loss that stands still are the trainer's.
        """
        return None

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the optimizer: tensors, plain values, no objects."""
        return {"parameters": {name: p.detach() for name, p in self.parameters().items()}}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` returned; its tensors may be on another device."""
        for name, parameter in self.parameters().items():
            parameter.copy_(state["parameters"][name])

    def evaluate(self, ranks: Ranks) -> Mapping[str, float]:
        """Scores on held-out data, by name. Called in every process; the first one's count."""
        return {}

    def score(self, scores: Mapping[str, float]) -> float:
        """The number that the best step has most of."""
        return next(iter(scores.values()))

    def export(self, path: Path, step: int) -> None:
        """Write what users need of the model after `step` updates, one file. First process only."""
        tensors = {name: p.detach().contiguous() for name, p in self.parameters().items()}
        save_safetensors(tensors, path, {"step": str(step)})

    def finish(self, finished: Path) -> None:
        """Called at the end with the finished file, a copy of an export. First process only.

        The place for what belongs beside it: a configuration, another format.
        """

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed: settings, data, weights."""
        return {**identity(self.config), "data": self.source.digest}

    def inputs(self) -> Inputs | None:
        """The files that the run is made from and scored on; None where there are none.

        Called in the first process only.
        """
        return None

    def settings(self) -> dict[str, Any]:
        """What is written beside it, for people."""
        return plain(self.config)

    def agreement(self) -> Any:
        """What must be the same in all processes: a small value."""
        return self.source.digest

    def describe(self) -> list[str]:
        """Lines about the model, printed before a run."""
        return []
