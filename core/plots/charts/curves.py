"""Charts of scores: precision against recall, and scores against the background threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from .axes import COLOURS, Axes, Layout
from .axes import Point as Place

PRECISION_RECALL = Layout(
    width=900, height=900, top=40, below=100, end=76, room=100, x_title=44, y_title=8
)
CUTS = "dots: the words as selected; cut caption by caption, they lie beside the curve of one cut"
NOTE_END = 46  # pixels from the note to the end of the sheet
BESIDE = 0.005  # recall or precision by which a cut is not on its curve
SWEEP = Layout(width=1200, height=760, top=50, below=110, end=20, room=110, x_title=50, y_title=10)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Recall [N] and precision [N] of a method, and where it cut: (recall, precision)."""

    label: str
    recall: Values
    precision: Values
    cut: tuple[float, float]


@dataclass(frozen=True)
class Point:
    """A method without scores: it has one recall and one precision."""

    label: str
    recall: float
    precision: float


@dataclass(frozen=True)
class Line:
    """One line of a sweep: its name and a value in [0, 1] for each of S thresholds, [S]."""

    label: str
    values: Values
    dashed: bool = False


def draw_precision_recall(curves: Sequence[Curve], points: Sequence[Point]) -> Image.Image:
    """Recall to the right and precision upwards, both 0 to 1, RGB.

    Curves are steps, as average precision sums them; methods without scores are squares. A dot is
    where a method cut. It is joined to its curve by a thin line where it does not lie on it, as
    when every caption has a cut of its own: no single threshold gives those words.
    """
    labels = [curve.label for curve in curves] + [point.label for point in points]
    axes = Axes(PRECISION_RECALL, labels)
    axes.grid(5, lambda value: f"{value:.1f}")
    axes.frame("recall", "precision")
    for row, curve in enumerate(curves):
        colour = _colour(row)
        sample = axes.legend(row, curve.label)
        axes.draw.line(_steps(axes, curve), fill=colour, width=4, joint="curve")
        axes.draw.line([sample[0], sample[-1]], fill=colour, width=6)
        near = _nearest(curve)
        if math.dist(near, curve.cut) > BESIDE:
            axes.draw.line([axes.at(*near), axes.at(*curve.cut)], fill=colour, width=2)
        axes.dot(axes.at(*curve.cut), colour)
    if any(math.dist(_nearest(curve), curve.cut) > BESIDE for curve in curves):
        axes.note(CUTS, NOTE_END)
    for row, point in enumerate(points, start=len(curves)):
        sample = axes.legend(row, point.label)
        (x0, y), (x1, _) = sample[0], sample[-1]
        axes.dot(((x0 + x1) / 2, y), _colour(row), square=True)
        axes.dot(axes.at(point.recall, point.precision), _colour(row), square=True)
    return axes.image()


def draw_sweep(
    thresholds: Sequence[float],
    lines: Sequence[Line],
    score: str,
    marks: Mapping[float, str] = MappingProxyType({}),
) -> Image.Image:
    """Thresholds [S] to the right and values upwards, RGB.

    Every undashed line has its maximum marked. score: what the values are; marks: vertical lines at
    some thresholds, with their names.
    """
    highest = max(_highest(line.values) for line in lines)
    top = max(0.1, float(np.ceil(10 * highest) / 10))
    axes = Axes(SWEEP, [line.label for line in lines], y_max=top)
    axes.grid(10, lambda value: f"{100 * value:.0f}")
    for threshold, name in marks.items():
        axes.mark_x(threshold, name)
    axes.frame("background threshold", f"{score}, in percent")
    for row, line in enumerate(lines):
        pairs = zip(thresholds, line.values.tolist(), strict=True)
        known = [pair for pair in pairs if not np.isnan(pair[1])]
        _draw_line(axes, axes.legend(row, line.label), line, _colour(row))
        if not known:
            continue
        _draw_line(axes, [axes.at(*pair) for pair in known], line, _colour(row))
        if not line.dashed:
            axes.dot(axes.at(*max(known, key=lambda pair: pair[1])), _colour(row))
    return axes.image()


def _nearest(curve: Curve) -> tuple[float, float]:
    """The (recall, precision) of a curve's steps that is nearest to its cut."""
    recall, precision = curve.cut
    starts = np.concatenate([[0.0], curve.recall[:-1]])
    x = np.clip(recall, starts, curve.recall)  # on each level part
    best = int(np.hypot(x - recall, curve.precision - precision).argmin())
    return float(x[best]), float(curve.precision[best])


def _colour(row: int) -> str:
    return COLOURS[row % len(COLOURS)]


def _highest(values: Values) -> float:
    """The highest value; 0 where there is none."""
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else 0.0


def _steps(axes: Axes, curve: Curve) -> list[Place]:
    """Corners of a curve's steps: each precision holds from the recall before it to its own."""
    path, last = [], 0.0
    for recall, precision in zip(curve.recall.tolist(), curve.precision.tolist(), strict=True):
        path += [axes.at(last, precision), axes.at(recall, precision)]
        last = recall
    return path


def _draw_line(axes: Axes, places: list[Place], line: Line, colour: str) -> None:
    """A line through places; a dashed one leaves out every other piece."""
    if not line.dashed:
        axes.draw.line(places, fill=colour, width=5, joint="curve")
        return
    for start in range(0, len(places) - 1, 2):
        axes.draw.line(places[start : start + 2], fill=colour, width=4)
