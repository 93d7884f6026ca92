"""What a run is about to do, in lines: data, batch, steps, parameters, time, memory, disk.

Wrong data and batches show here, not after days of training. The three timed steps are taken back
to the last bit, so that the run itself is the same without them.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..data.records import Skipped
from .optimizer import Update
from .task import Group, Task
from .trainer import Trainer

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

TIMED = 3  # steps
SECONDS = 60.0  # no further timed step after these
DAMAGED = "damaged"  # how the reason of an unreadable shard begins (core/data/records.py)
SHOWN = 5  # names in a line


@dataclass(frozen=True)
class Recipe:
    """The settings file of a run, and the batch and learning rate it has.

    scaled: whether the run's learning rate was scaled by its batch against the recipe's.
    """

    path: str
    batch: int
    lr: float
    scaled: bool


def preflight(trainer: Trainer, recipe: Recipe | None) -> Iterator[str]:
    """The lines, each as soon as it is known. Call in every process before `Trainer.run`.

    TTDError: the first steps fail, by lack of memory, say.
    """
    task = trainer.task
    yield from data_lines(task)
    yield from task.describe()
    yield batch_line(trainer, recipe)
    yield length_line(trainer)
    yield from parameter_lines(task, trainer.update)
    yield time_line(trainer)
    yield disk_line(trainer)
    yield f"writes: everything into {trainer.config.folder}"


def data_lines(task: Task[Any, Any, Any]) -> Iterator[str]:
    """The inputs, and what of them cannot be used."""
    source = task.source
    yield from (f"data: {line}" for line in source.descriptions)
    lost = len(source.skipped)
    yield f"data: {len(source):,} {task.unit} to train on, {lost:,} found that cannot be used"
    if lost:
        yield f"skipped: {', '.join(reasons(source.skipped))}"
    damaged = [item.id for item in source.skipped if item.reason.startswith(DAMAGED)]
    if damaged:
        yield f"unreadable: {_some(damaged)}"


def reasons(skipped: Sequence[Skipped]) -> list[str]:
    """`COUNT REASON` for every kind of reason, the most frequent first.

    What differs between samples stands behind a comma or in brackets, and is left out.
    """
    kinds = Counter(item.reason.split(",")[0].split(" (")[0].split(":")[0] for item in skipped)
    return [f"{count:,} {kind}" for kind, count in kinds.most_common()]


def batch_line(trainer: Trainer, recipe: Recipe | None) -> str:
    """How the batch is made up, and how it and the learning rate compare with the recipe's."""
    config, sharding = trainer.config, trainer.sharding
    each = config.batch // (sharding.world * sharding.grad_accum_steps)
    plural = "es" if sharding.world > 1 else ""
    line = f"batch: {config.batch} = {sharding.world} process{plural}"
    if sharding.grad_accum_steps > 1:
        line += f" x {sharding.grad_accum_steps} micro-batches"
    line += f" x {each}, learning rate {config.lr:g}"
    if recipe is None:
        return line
    line += f"; the recipe {recipe.path} has {recipe.batch} and {recipe.lr:g}"
    if recipe.scaled:
        line += f": scaled by {config.batch}/{recipe.batch} (--no-scale-lr keeps {recipe.lr:g})"
    elif config.batch != recipe.batch:
        line += ": not scaled by the batch"
    return line


def length_line(trainer: Trainer) -> str:
    """Steps, and how often they pass over the data."""
    config, count = trainer.config, len(trainer.task.source)
    epochs = config.steps * config.batch / count
    line = f"steps: {config.steps:,}, {epochs:.3g} epochs of {count:,} {trainer.task.unit}"
    return f"{line}, {trainer.step:,} done" if trainer.step else line


def parameter_lines(task: Task[Any, Any, Any], update: Update) -> Iterator[str]:
    """What is trained and what is frozen, by group, at the start and where it changes."""
    groups = task.groups(0)
    yield f"parameters: {_groups(groups, update)}"
    for step in phase_starts(task, 0, task.config.steps - 1):
        yield f"parameters from step {step:,} on: {_groups(task.groups(step), update)}"


def phase_starts(task: Task[Any, Any, Any], low: int, high: int) -> list[int]:
    """Steps in (low, high] from which on other groups are frozen, found by bisection.

    A phase that ends as the one before it is found only where a half of the range ends inside it.
    """
    if high <= low or _frozen(task, low) == _frozen(task, high):
        return []
    if high == low + 1:
        return [high]
    middle = (low + high) // 2
    return phase_starts(task, low, middle) + phase_starts(task, middle, high)


def _frozen(task: Task[Any, Any, Any], step: int) -> list[str]:
    return [group.name for group in task.groups(step) if group.frozen]


def _groups(groups: Sequence[Group], update: Update) -> str:
    parts = []
    for group in groups:
        count = sum(update.named[name].numel() for name in group.parameters)
        state = "frozen" if group.frozen else "trained"
        parts.append(f"{group.name} {count:,} {state}")
    return ", ".join(parts)


def time_line(trainer: Trainer) -> str:
    """Time and memory, by a few steps that are taken back."""
    times = trainer.timed_steps(TIMED, SECONDS)
    peak = peak_memory(trainer.task.device)
    memory = f"{peak / 2**30:.1f} GB of memory at the peak" if peak else "memory unknown"
    if not times:
        return f"time: nothing is left to do; {memory}"
    usual = median(times[1:] or times)  # the first one warms up
    left = (trainer.config.steps - trainer.step) * usual
    return (
        f"time: {usual:.3g} s a step in {trainer.config.dtype} (of {len(times)} timed, the first "
        f"took {times[0]:.3g} s): "
        f"about {duration(left)} without evaluation; {memory}"
    )


def duration(seconds: float) -> str:
    """`50 s`, `12 min`, `3.5 h` or `2.1 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def peak_memory(device: torch.device) -> int:
    """Bytes this process held at most: on its GPU, else of the machine's memory; 0: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def disk_line(trainer: Trainer) -> str:
    """What the run's files will need, and what is free. Call after the timed steps."""
    need, free = disk_need(trainer), free_space(trainer.config.folder)
    line = f"disk: about {_size(need)} for checkpoint and exports, {_size(free)} free"
    return f"{line}: NOT ENOUGH, make room or choose another --out" if need > free else line


def disk_need(trainer: Trainer) -> int:
    """Bytes of the checkpoint, written beside the old one, and of four exports (an estimate).

    AdamW keeps two values for each parameter; an export is taken to be the parameters.
    """
    parameters = sum(p.numel() * p.element_size() for p in trainer.update.named.values())
    checkpoint = _bytes(trainer.task.state()) + 2 * parameters
    return 2 * checkpoint + 4 * parameters


def free_space(folder: Path) -> int:
    """Bytes free where a folder is, or will be made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _bytes(value: Any) -> int:
    """Of all tensors in nested mappings and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_bytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes(item) for item in value)
    return 0


def _size(count: int) -> str:
    if count < 2**30:
        return f"{count / 2**20:.0f} MB"
    return f"{count / 2**30:.1f} GB"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    more = len(names) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
