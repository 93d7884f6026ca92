"""Charts as inline SVG: bars, lines, a histogram, a matrix. Letters stay readable on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .page import Html, element, join, text
from .style import AFTER, BEFORE, SERIES

WIDTH, HEIGHT = 380, 250  # of a chart, in its own units: about a phone's width
LEFT, BOTTOM, TOP, RIGHT = 42, 38, 10, 12  # its margins
CELL, LETTER = 22, 6.2  # of a matrix: a cell's side, and the width of a letter

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bar:
    """A row: its name, its value in [0, 1] (NaN: none), the value before, and a remark."""

    name: str
    value: float
    before: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Line:
    """One line: its name, its values [S] in [0, 1]; dashed: what it is compared with."""

    name: str
    values: Floats
    dashed: bool = False


def percent(value: float, digits: int = 1) -> str:
    """A fraction in percent; `-` for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A difference of fractions in percent points, with its sign; what rounds to 0 has none."""
    if math.isnan(value):
        return "-"
    rounded = round(100 * value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def bars(rows: Sequence[Bar]) -> Html:
    """A bar for each row; a grey one below it for what was before, and the difference."""
    cells = []
    for row in rows:
        drawn, said = [_bar(row.value, AFTER)], [text(percent(row.value))]
        if row.before is not None:
            drawn.append(_bar(row.before, BEFORE))
            change = signed(row.value - row.before)
            kind = {"+": "gain", "-": "loss"}.get(change[0], "same")
            shown = "=" if kind == "same" else change
            said.append(element("span", text(shown), class_=kind))
        name = [text(row.name)]
        if row.remark:
            name.append(element("small", text(f" {row.remark}")))
        cells.append(element("div", *name, class_="name"))
        cells.append(element("div", *drawn))
        cells.append(element("div", join(said, " "), class_="value"))
    return element("div", *cells, class_="bars")


def _bar(value: float, colour: str) -> Html:
    """A bar that is as long as its value, on a light ground."""
    length = 0.0 if math.isnan(value) else 100 * min(max(value, 0.0), 1.0)
    ground = '<rect width="100" height="10" fill="#eef1f4"/>'
    bar = f'<rect width="{length:.2f}" height="10" fill="{colour}"/>'
    return Html(f'<svg viewBox="0 0 100 10" preserveAspectRatio="none">{ground}{bar}</svg>')


def lines(
    x: Sequence[float],
    drawn: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    mark: float | None = None,
    peaks: bool = True,
) -> Html:
    """Values upwards in percent against x in [0, 1]; a circle where an undashed line is highest.

    mark: a place on x that is shown by a vertical line, the value that was used; peaks: whether
    there are circles.
    """
    known = [line.values[~np.isnan(line.values)] for line in drawn]
    highest = max((float(values.max()) for values in known if len(values)), default=1.0)
    plot = _Plot(_round_up(highest))
    parts = [plot.frame(x_title, y_title)]
    if mark is not None and 0 <= mark <= 1:
        parts.append(plot.vertical(mark))
    for number, line in enumerate(drawn):
        peak = peaks and not line.dashed
        parts.append(plot.line(x, line, SERIES[number % len(SERIES)], peak))
    colours = [SERIES[number % len(SERIES)] for number in range(len(drawn))]
    names = [(colour, line.name) for colour, line in zip(colours, drawn, strict=True)]
    return element("div", plot.svg(parts), legend(names), class_="chart")


def histogram(values: Floats, before: Floats | None, x_title: str, bins: int = 20) -> Html:
    """How many entries have which value in [0, 1]; before: the same as an outline."""
    edges = np.linspace(0, 1, bins + 1)
    counts = np.histogram(values[~np.isnan(values)], edges)[0]
    other = np.zeros(bins, np.int64)
    if before is not None:
        other = np.histogram(before[~np.isnan(before)], edges)[0]
    top = 5 * math.ceil(max(1, int(counts.max()), int(other.max())) / 5)
    plot = _Plot(float(top), share=False)
    parts = [plot.frame(x_title, "entries")]
    for k in range(bins):
        parts.append(plot.column(edges[k], edges[k + 1], int(counts[k]), AFTER, filled=True))
        if before is not None:
            parts.append(plot.column(edges[k], edges[k + 1], int(other[k]), "#333", filled=False))
    names = [(AFTER, "now")] + ([("#333", "before (outline)")] if before is not None else [])
    return element("div", plot.svg(parts), legend(names), class_="chart")


def legend(names: Sequence[tuple[str, str]]) -> Html:
    """Colours (#rrggbb, of ours) and what they are."""
    entries = []
    for colour, name in names:
        entries.append(element("span", element("i", style=f"background:{colour}"), text(name)))
    return element("div", *entries, class_="key")


def heat(shares: Floats, names: Sequence[str]) -> Html:
    """A matrix [L, L] of fractions, rows true and columns predicted; the darker the more."""
    longest = max(map(len, names))
    side = min(160.0, 8 + LETTER * longest)
    size = side + CELL * len(names) + 6
    parts = []
    for row, name in enumerate(names):
        place = side + CELL * (row + 0.5) + 4
        parts.append(_label(side - 6, place, name, "end", 0))
        parts.append(_label(side + CELL * (row + 0.5) + 4, side - 6, name, "start", -60))
        for column, share in enumerate(shares[row].tolist()):
            parts.append(_cell(side, row, column, share, f"{name} as {names[column]}"))
    room = side * 0.6 + 10  # of slanted letters beyond the last column
    box = f"0 0 {size + room:.0f} {size:.0f}"
    drawn = f'<svg viewBox="{box}" width="{size + room:.0f}" height="{size:.0f}">'
    return element("div", Html(drawn + "".join(parts) + "</svg>"), class_="heat wide")


def _cell(side: float, row: int, column: int, share: float, said: str) -> Html:
    """A square of a matrix with its number in percent."""
    x, y = side + CELL * column, side + CELL * row
    known = 0.0 if math.isnan(share) else share
    colour = "#15803d" if row == column else "#b4232c"
    tip = f"{said}: {percent(share)} %"
    number = ""
    if known >= 0.005:
        ink = "#fff" if known > 0.55 else "#1c2733"
        middle = f'x="{x + CELL / 2:.1f}" y="{y + CELL / 2 + 3:.1f}"'
        shown = f"{100 * known:.0f}"
        number = f'<text {middle} font-size="9" text-anchor="middle" style="fill:{ink}">{shown}'
        number += "</text>"
    box = f'x="{x:.1f}" y="{y:.1f}" width="{CELL - 1}" height="{CELL - 1}"'
    ground = f'<rect {box} fill="#eef1f4"/>'
    tint = f'<rect {box} fill="{colour}" fill-opacity="{known:.3f}"/>'
    return Html(f"<g><title>{text(tip)}</title>{ground}{tint}{number}</g>")


def _label(x: float, y: float, name: str, anchor: str, turn: int) -> Html:
    """A name beside a matrix, cut where it is long."""
    shown = name if len(name) <= 24 else name[:23] + "…"
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    place = f'x="{x:.1f}" y="{y + (0 if turn else 3):.1f}" font-size="11" text-anchor="{anchor}"'
    return Html(f"<text {place}{turned}>{text(shown)}</text>")


def _round_up(value: float) -> float:
    """The next tenth above a fraction, at least one."""
    return min(1.0, max(0.1, math.ceil(10 * value - 1e-9) / 10))


class _Plot:
    """A frame in which x goes from 0 to 1 and y from 0 to `top`, in percent if it is a share."""

    def __init__(self, top: float, share: bool = True) -> None:
        self.top, self.share = top, share

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is in the drawing."""
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + wide * x, TOP + high * (1 - y / self.top)

    def svg(self, parts: Sequence[Html]) -> Html:
        """The whole drawing."""
        return Html(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>')

    def frame(self, x_title: str, y_title: str) -> Html:
        """Grid, numbers and titles."""
        parts = []
        for k in range(6):
            y = self.top * k / 5
            (left, place), (right, _) = self.at(0, y), self.at(1, y)
            shown = f"{100 * y:.0f}" if self.share else f"{y:.0f}"
            parts.append(_stroke((left, place), (right, place), "#d9dfe5"))
            parts.append(_words(left - 5, place + 4, shown, "end"))
            parts.append(_words(self.at(k / 5, 0)[0], HEIGHT - BOTTOM + 14, f"{k / 5:g}", "middle"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(_words(middle, HEIGHT - 6, x_title, "middle"))
        turn = f'transform="rotate(-90 11 {HEIGHT / 2 - 15})"'
        upright = f'x="11" y="{HEIGHT / 2 - 15}" font-size="11" text-anchor="middle"'
        parts.append(Html(f"<text {upright} {turn}>{text(y_title)}</text>"))
        return Html("".join(parts))

    def vertical(self, x: float) -> Html:
        """A line at the value that was used."""
        (place, low), (_, high) = self.at(x, 0), self.at(x, self.top)
        line = _stroke((place, low), (place, high), "#5b6875", dashed=True)
        return Html(line + _words(place + 4, low - 6, f"used: {x:.2f}", "start"))

    def line(self, x: Sequence[float], line: Line, colour: str, peak: bool) -> Html:
        """One line, and with `peak` a circle at its highest point."""
        pairs = [pair for pair in zip(x, line.values.tolist(), strict=True) if pair[1] == pair[1]]
        if not pairs:
            return Html("")
        points = " ".join("{:.1f},{:.1f}".format(*self.at(*pair)) for pair in pairs)
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        drawn = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"'
        drawn += f"{dashes}/>"
        if peak:
            left, top = self.at(*max(pairs, key=lambda pair: pair[1]))
            drawn += f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.5" fill="{colour}"/>'
        return Html(drawn)

    def column(self, low: float, high: float, count: int, colour: str, filled: bool) -> Html:
        """A column of a histogram."""
        (left, top), (right, ground) = self.at(low, count), self.at(high, 0)
        paint = f'fill="{colour}"' if filled else f'fill="none" stroke="{colour}"'
        size = f'width="{right - left - 1:.1f}" height="{ground - top:.1f}"'
        return Html(f'<rect x="{left + 0.5:.1f}" y="{top:.1f}" {size} {paint}/>')


def _stroke(
    begin: tuple[float, float], end: tuple[float, float], colour: str, dashed: bool = False
) -> Html:
    ends = 'x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"'.format(*begin, *end)
    dashes = ' stroke-dasharray="3 3"' if dashed else ""
    return Html(f'<line {ends} stroke="{colour}"{dashes}/>')


def _words(x: float, y: float, said: str, anchor: str) -> Html:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}"'
    return Html(f"<text {place}>{text(said)}</text>")
