"""When training destroys what it distils: a watch over the maps of the selected words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .embedding import Maps, TextBatch


@dataclass(frozen=True)
class MapStatistics:
    """How alive the maps of the selected words of a batch are.

    map_std: mean over words of the standard deviation of the cosine over pixels.
    map_correlation: mean Pearson correlation between the maps of two different selected words of a
    caption (0 where no caption has two). selected: share of the words that are selected. Scalars,
    as tensors or numbers.
    """

    map_std: Tensor | float
    map_correlation: Tensor | float
    selected: Tensor | float


@torch.no_grad()
def map_statistics(maps: Maps, selected: Tensor, texts: TextBatch) -> MapStatistics:
    """Statistics of one batch, for logs and `CollapseMonitor`; selected bool [B, K]."""
    index, valid = texts.index.to(selected.device), texts.valid.to(selected.device)
    centred = maps.words.flatten(2) - maps.words.flatten(2).mean(2, keepdim=True)  # [B, K, h * w]
    deviation = centred.square().mean(2).sqrt()  # [B, K]
    unit = F.normalize(centred, dim=2)
    pairs = selected[:, :, None] & selected[:, None, :]
    pairs = pairs & (index[:, :, None] != index[:, None, :])
    return MapStatistics(
        _mean_of(deviation, selected),
        _mean_of(unit @ unit.transpose(1, 2), pairs),
        _mean_of(selected.to(deviation), valid),
    )


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 for none: a scalar.

    No boolean index, which would make a GPU wait.
    """
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


class CollapseMonitor:
    """Notices when training destroys what it distils.

    Word maps then grow alike, or their variance dies. A running average (over about `window`
    batches) is compared with that of the first `window` batches: collapse when map_std falls below
    `min_std` of its start, or when what tells maps apart, 1 - map_correlation, falls below
    `min_apart` of its start. `state` and `restore` carry it through checkpoints.
    """

    def __init__(self, window: int = 10, min_std: float = 0.3, min_apart: float = 0.35):
        self.window, self.min_std, self.min_apart = window, min_std, min_apart
        self.values: dict[str, list[float]] = {"start": [], "now": []}  # (std, apart)
        self._seen = 0

    def update(self, statistics: MapStatistics) -> str | None:
        """Take in one batch; the reason in one line when the maps have collapsed, else None."""
        new = [float(statistics.map_std), 1 - float(statistics.map_correlation)]
        self._seen += 1
        rate = 1 / min(self._seen, self.window)
        now = self.values["now"] or new
        self.values["now"] = [
            old + rate * (value - old) for old, value in zip(now, new, strict=True)
        ]
        if self._seen <= self.window:
            self.values["start"] = list(self.values["now"])
            return None
        return self._verdict()

    def _verdict(self) -> str | None:
        (std, apart), (std0, apart0) = self.values["now"], self.values["start"]
        if std < self.min_std * std0:
            return f"the word maps have lost their variance: {std:.4f}, {std0:.4f} at the start"
        if apart < self.min_apart * apart0:
            return (
                f"the maps of different words have grown alike: correlation {1 - apart:.2f}, "
                f"{1 - apart0:.2f} at the start"
            )
        return None

    def state(self) -> dict[str, list[float]]:
        """Plain values for a checkpoint."""
        return {**self.values, "seen": [float(self._seen)]}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Continue from `state()`."""
        self.values = {"start": list(state["start"]), "now": list(state["now"])}
        self._seen = int(state["seen"][0])
