"""Charts of a curriculum: performance against the reliability threshold, and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
from PIL import Image

from .axes import COLOURS, Axes, Layout

CURVES = Layout(width=1200, height=760, top=50, below=110, end=20, room=110, x_title=50, y_title=10)
BARS = Layout(width=1200, height=500, top=50, below=110, end=20, room=110, x_title=50, y_title=10)
BINS = 50

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Search:
    """A search: its name, the performance in [0, 1] of each threshold tried, and the chosen one."""

    label: str
    tried: Mapping[float, float]
    chosen: float


def draw_searches(searches: Sequence[Search], levels: Mapping[str, float]) -> Image.Image:
    """Thresholds to the right, performance upwards, RGB; a large dot where a search ended.

    levels: dashed lines for comparison, such as a whole source. Thresholds without a performance
    (too few labels) are left out.
    """
    tried = chain.from_iterable(search.tried.values() for search in searches)
    highest = max([*filter(np.isfinite, tried), *levels.values(), 0.0])
    labels = [search.label for search in searches] + list(levels)
    axes = Axes(CURVES, labels, y_max=max(0.1, float(np.ceil(10 * highest) / 10)))
    axes.grid(10, lambda value: f"{100 * value:.0f}")
    axes.frame("reliability threshold", "Acc@0.5, in percent")
    for row, search in enumerate(searches):
        colour = COLOURS[row % len(COLOURS)]
        sample = axes.legend(row, search.label)
        axes.draw.line([sample[0], sample[-1]], fill=colour, width=6)
        known = sorted((t, value) for t, value in search.tried.items() if np.isfinite(value))
        places = [axes.at(*pair) for pair in known]
        axes.draw.line(places, fill=colour, width=5, joint="curve")
        for (x, y), pair in zip(places, known, strict=True):
            if pair[0] == search.chosen:
                axes.dot((x, y), colour)
            else:
                axes.draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=colour)
    for row, (label, value) in enumerate(levels.items(), start=len(searches)):
        colour = COLOURS[row % len(COLOURS)]
        sample = axes.legend(row, label)
        for line in (sample, [axes.at(share, value) for share in np.linspace(0, 1, 41)]):
            for start in range(0, len(line) - 1, 2):
                axes.draw.line(line[start : start + 2], fill=colour, width=4)
    return axes.image()


def draw_histogram(reliability: Mapping[str, Values], title: str) -> Image.Image:
    """Shares of the labels over reliability in `BINS` bins, one outline a measurer, RGB.

    reliability: [N] in [0, 1] each. Labels that no prediction touches (0) are left out and counted
    in the legend.
    """
    edges = np.linspace(0, 1, BINS + 1)
    counts = {
        name: np.histogram(r[r > 0], edges)[0] / max(1, len(r)) for name, r in reliability.items()
    }
    highest = max([float(shares.max()) for shares in counts.values()] + [0.01])
    labels = [
        f"by {name}: {100 * float((r == 0).mean()):.0f} % at 0" for name, r in reliability.items()
    ]
    axes = Axes(BARS, labels, y_max=1.1 * highest)
    axes.grid(10, lambda value: f"{100 * value:.1f}")
    axes.frame("reliability", f"{title}: labels per bin, in percent")
    for row, (shares, label) in enumerate(zip(counts.values(), labels, strict=True)):
        colour = COLOURS[row % len(COLOURS)]
        sample = axes.legend(row, label)
        axes.draw.line([sample[0], sample[-1]], fill=colour, width=6)
        corners = []
        for i, share in enumerate(shares.tolist()):
            corners += [axes.at(edges[i], share), axes.at(edges[i + 1], share)]
        axes.draw.line(corners, fill=colour, width=4)
    return axes.image()
