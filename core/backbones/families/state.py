"""Taking a weight file apart by its names: every tensor is used once, none is left over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ...errors import TTDError


class State:
    """The tensors of one file, which `take` hands out by name and shape.

    Errors of all methods: TTDError naming the file and the tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: Path, of: str):
        """tensors: {name: [...]}; source: the file; of: what model it must be, for messages."""
        self._left = dict(tensors)
        self._source, self._of = source, of

    def has(self, name: str) -> bool:
        """Whether there is such a tensor that was not taken yet."""
        return name in self._left

    def take(self, name: str, *shape: int | None) -> Tensor:
        """The tensor of a name, in float32, and only once.

        shape: its sides [...]; None for any. Without any side, whatever shape it has.
        """
        value = self._left.pop(name, None)
        if value is None:
            raise TTDError(f"{self._source} is not {self._of}: it has no tensor {name}")
        sides = list(value.shape)
        known = len(sides) == len(shape) and all(
            side == wanted or wanted is None for side, wanted in zip(sides, shape, strict=False)
        )
        if shape and not known:
            wanted = ["any" if side is None else side for side in shape]
            raise TTDError(f"{self._source}: {name} is {sides}, {self._of} has {wanted}")
        return value.float()

    def drop(self, *names: str) -> None:
        """Forget tensors that inference does not need, where there are any."""
        for name in names:
            self._left.pop(name, None)

    def count(self, prefix: str) -> int:
        """Number of numbered parts `PREFIX<n>.`, n from 0 without a gap, at least one."""
        pattern = re.compile(re.escape(prefix) + r"(\d{1,4})\.")
        matches = (pattern.match(name) for name in self._left)
        numbers = {int(match[1]) for match in matches if match}
        if not numbers or numbers != set(range(len(numbers))):
            raise TTDError(f"{self._source} is not {self._of}: it has no blocks {prefix}0 and on")
        return len(numbers)

    def finish(self) -> None:
        """TTDError for tensors that nobody took."""
        if self._left:
            names = ", ".join(sorted(self._left)[:5])
            raise TTDError(
                f"{self._source} is not {self._of}: {len(self._left)} unknown tensors ({names})"
            )

    def norm(self, name: str, width: int, eps: float) -> nn.LayerNorm:
        """A layer norm over [..., width]."""
        norm = nn.LayerNorm(width, eps=eps, device="meta")
        norm.weight = nn.Parameter(self.take(f"{name}.weight", width))
        norm.bias = nn.Parameter(self.take(f"{name}.bias", width))
        return norm

    def linear(self, name: str, inputs: int, outputs: int | None = None) -> nn.Linear:
        """A linear [..., inputs] -> [..., outputs], with a bias where the file has one."""
        weight = self.take(f"{name}.weight", outputs, inputs)
        bias = self.take(f"{name}.bias", len(weight)) if self.has(f"{name}.bias") else None
        linear = nn.Linear(inputs, len(weight), bias=bias is not None, device="meta")
        linear.weight = nn.Parameter(weight)
        if bias is not None:
            linear.bias = nn.Parameter(bias)
        return linear
