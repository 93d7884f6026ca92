"""Masks that are on everywhere, off everywhere, or flat: then the loss has been gamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

WINDOW = 50  # steps over which the statistics are averaged
OFF, ON = 0.01, 0.99  # bounds of the mean of the positive masks
FLAT = 1e-3  # least standard deviation over the cells of a mask


class MaskMonitor:
    """Watches means over the last `WINDOW` steps; says why training must stop."""

    def __init__(self) -> None:
        self._seen: list[list[float]] = []

    def update(self, values: Mapping[str, float]) -> str | None:
        """Take in `mask_area` and `mask_std` of a step; the reason to stop, or None."""
        self._seen = [*self._seen, [values["mask_area"], values["mask_std"]]][-WINDOW:]
        if len(self._seen) < WINDOW:
            return None
        area, std = (sum(column) / WINDOW for column in zip(*self._seen, strict=True))
        if area < OFF:
            return f"the masks of the images' own texts are off everywhere (area {area:.4f})"
        if area > ON:
            return f"the masks of the images' own texts are on everywhere (area {area:.4f})"
        if std < FLAT:
            return f"the masks are flat (standard deviation {std:.1e} over a mask)"
        return None

    def state(self) -> list[list[float]]:
        """For a checkpoint."""
        return [list(pair) for pair in self._seen]

    def load(self, state: Sequence[Sequence[float]]) -> None:
        """Go back to `state()`."""
        self._seen = [list(pair) for pair in state]
