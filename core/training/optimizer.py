"""The optimizers of a run: parameter groups by step, loss scaling, clipping, the update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TTDError
from .task import Group, Task

OVERFLOWS = 20  # updates in a row skipped for float16 overflow before the run is stopped


class Update:
    """What turns the gradients of a step into new parameters.

    One set of optimizers holds all parameters from the start. A frozen group gets no gradient and
    is passed over, so its state survives until it is thawed.
    """

    def __init__(self, task: Task[Any, Any, Any]):
        """TTDError where the groups of step 0 are not all parameters, each once."""
        self.task = task
        self.named = dict(task.parameters())
        self.groups = task.groups(0)
        _check_groups(self.groups, self.named)
        self.optimizers = task.optimizers([self._torch_group(group) for group in self.groups])
        scales = task.config.dtype == "float16"
        self.scaler = torch.amp.GradScaler(task.device.type, enabled=scales)
        self.skipped = self.overflows = 0  # updates skipped so far, and in a row

    def _torch_group(self, group: Group) -> dict[str, Any]:
        parameters = [self.named[name] for name in group.parameters]
        return {
            "params": parameters,
            "name": group.name,
            "lr": group.lr,
            "weight_decay": group.weight_decay,
        }

    def begin(self, step: int) -> list[Group]:
        """Set rates and frozen groups for a step, and clear the gradients.

        TTDError when the groups are others than at step 0.
        """
        groups = self.task.groups(step)
        members = [(group.name, group.parameters) for group in groups]
        if members != [(group.name, group.parameters) for group in self.groups]:
            raise TTDError(f"groups({step}) of the task are not those of step 0")
        self.groups = groups
        rates = {group.name: group for group in groups}
        for optimizer in self.optimizers:
            for torch_group in optimizer.param_groups:
                group = rates[torch_group["name"]]
                torch_group["lr"] = group.lr
                torch_group["weight_decay"] = group.weight_decay
        for group in groups:
            for name in group.parameters:
                self.named[name].requires_grad_(not group.frozen)
                self.named[name].grad = None
        return groups

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that this step trains, by name."""
        names: set[str] = set()
        for group in self.groups:
            if not group.frozen:
                names.update(group.parameters)
        return {name: parameter for name, parameter in self.named.items() if name in names}

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar loss, scaled where float16 needs it."""
        torch.autograd.backward(self.scaler.scale(loss))

    def clip(self) -> float:
        """Undo the loss scaling, and clip to the largest norm of the settings.

        Returns the L2 norm over all parameters before clipping; not finite after an overflow.
        """
        for optimizer in self._active():
            self.scaler.unscale_(optimizer)
        limit = self.task.config.grad_clip or math.inf
        return float(nn.utils.clip_grad_norm_(self.named.values(), limit))

    def problem(self, values: Mapping[str, float]) -> str | None:
        """Why a step must not be made: a number that is not finite; None when all is well.

        With float16 that is an overflow, which smaller loss scales mend: `OVERFLOWS` in a row are
        too many.
        """
        wrong = [name for name in ("loss", "grad_norm") if not math.isfinite(values[name])]
        if not wrong:
            return None
        if not self.scaler.is_enabled():
            return f"{wrong[0]} is {values[wrong[0]]}"
        if self.overflows + 1 < OVERFLOWS:
            return None
        return f"float16 overflowed in {OVERFLOWS} steps in a row"

    def step(self, norm: float) -> bool:
        """Make the update; False where float16 overflowed and it was skipped."""
        if math.isfinite(norm):
            for optimizer in self._active():
                self.scaler.step(optimizer)
        self.scaler.update()
        if math.isfinite(norm):
            self.overflows = 0
            return True
        self.skipped += 1
        self.overflows += 1
        return False

    def rates(self) -> dict[str, float]:
        """Learning rates for the log: `lr` of the first group, `lr_NAME` of those that differ."""
        first = self.groups[0].lr
        other = {f"lr_{group.name}": group.lr for group in self.groups if group.lr != first}
        return {"lr": first, **other}

    def scaling(self) -> dict[str, float]:
        """The loss scale and the updates skipped so far, for the log; empty without float16."""
        if not self.scaler.is_enabled():
            return {}
        return {"loss_scale": self.scaler.get_scale(), "skipped_updates": float(self.skipped)}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "skipped": [self.skipped, self.overflows],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to `state()`."""
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.skipped, self.overflows = state["skipped"]

    def _active(self) -> list[torch.optim.Optimizer]:
        """The optimizers that have a gradient to use: GradScaler refuses the others."""
        return [optimizer for optimizer in self.optimizers if _has_gradient(optimizer)]


def muon(groups: Sequence[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    """torch's Muon: steps along the orthogonalised momentum, for groups of matrices [A, B].

    TTDError where this torch has none.
    """
    if not hasattr(torch.optim, "Muon"):
        raise TTDError(f"the optimizer Muon needs torch >= 2.9, this is {torch.__version__}")
    optimizer: torch.optim.Optimizer = torch.optim.Muon(list(groups), **options)
    return optimizer


def _has_gradient(optimizer: torch.optim.Optimizer) -> bool:
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    return any(parameter.grad is not None for parameter in parameters)


def _check_groups(groups: Sequence[Group], named: Mapping[str, nn.Parameter]) -> None:
    """TTDError unless the groups hold every parameter once, and have names of their own."""
    members = list(chain.from_iterable(group.parameters for group in groups))
    if sorted(members) != sorted(named):
        wrong = sorted(set(members) ^ set(named)) or sorted(
            {n for n in members if members.count(n) > 1}
        )
        raise TTDError(
            f"the task's groups do not hold every parameter once: {', '.join(wrong[:3])}"
        )
    if len({group.name for group in groups}) != len(groups):
        raise TTDError("the task's groups must have different names")
