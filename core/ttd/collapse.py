"""When training destroys what it distils: a watch over the maps of the selected words."""

from __future__ import annotations

from .loss import MapStatistics


class CollapseMonitor:
    """Notices when training destroys what it distils: word maps growing alike, or their variance dying.

    Compares a running average (over about `window` batches) with that of the first `window`
    batches: collapse when the spread falls below `min_spread` of its start, or when what tells maps
    apart, 1 - alike, falls below `min_apart` of its start. `values` and `restore` carry it through
    checkpoints.
    """

    def __init__(self, window: int = 10, min_spread: float = 0.3, min_apart: float = 0.35):
        self.window, self.min_spread, self.min_apart = window, min_spread, min_apart
        self.values: dict[str, list[float]] = {"start": [], "now": []}  # (spread, apart)
        self._seen = 0

    def update(self, statistics: MapStatistics) -> str | None:
        """Take in one batch; the reason in one line when the maps have collapsed, else None."""
        new = [float(statistics.spread), 1 - float(statistics.alike)]
        self._seen += 1
        rate = 1 / min(self._seen, self.window)
        now = self.values["now"] or new
        self.values["now"] = [
            old + rate * (value - old) for old, value in zip(now, new, strict=True)
        ]
        if self._seen <= self.window:
            self.values["start"] = list(self.values["now"])
            return None
        (spread, apart), (spread0, apart0) = self.values["now"], self.values["start"]
        if spread < self.min_spread * spread0:
            return (
                f"the word maps have lost their variance: {spread:.4f}, {spread0:.4f} at the start"
            )
        if apart < self.min_apart * apart0:
            return (
                f"the maps of different words have grown alike: correlation {1 - apart:.2f}, {1 - apart0:.2f} at "
                "the start"
            )
        return None

    def state(self) -> dict[str, list[float]]:
        """Plain values for a checkpoint."""
        return {**self.values, "seen": [float(self._seen)]}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Continue from `state()`."""
        self.values = {"start": list(state["start"]), "now": list(state["now"])}
        self._seen = int(state["seen"][0])
