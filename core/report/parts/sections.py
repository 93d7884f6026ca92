"""Sections that several reports have: what made the results, what changed, what was left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...metrics.bootstrap import DRAWS, Floats, Interval, Statistic, interval, replicates
from ...utils.files import flatten
from ...utils.shown import without_folders
from . import images
from .charts import percent, signed
from .page import Html, element, folded, section, table, text

SHOWN = 400  # characters of a setting
UNSEEN = "weight_files."  # sizes and times of files, with their places; checksums say more


def scored(sums: npt.ArrayLike, statistic: Statistic) -> tuple[Interval, Floats]:
    """A score with its interval, and the score of every draw. sums: see `replicates`."""
    values = np.asarray(sums, np.float64)
    whole = float(statistic(values.sum(0, keepdims=True))[0])
    found = replicates(values, statistic)
    return interval(whole, found), found


def range_words(found: Interval) -> str:
    """`95 %: 40.1 to 43.2`, in percent."""
    return f"95 %: {range_of(found)}"


def range_of(found: Interval, shown: Callable[[float], str] = percent) -> str:
    """`40.1 to 43.2`; `-` where there is no score. shown: `percent`, or `signed` for a change."""
    return "-" if np.isnan(found.low) else f"{shown(found.low)} to {shown(found.high)}"


def difference(now: tuple[Interval, Floats], before: tuple[Interval, Floats]) -> Interval:
    """The difference of two scores over the same draws."""
    return interval(now[0].value - before[0].value, now[1] - before[1])


def change(
    now: tuple[Interval, Floats], before: tuple[Interval, Floats], name: str
) -> tuple[str, str, str]:
    """The difference of two scores over the same draws, for `numbers`. name: the earlier one's."""
    found = difference(now, before)
    words = f"95 %: {signed(found.low)} to {signed(found.high)}, against {name}"
    return "change, points", signed(found.value), words


DRAWN = (
    f"Intervals: the images drawn {DRAWS} times with replacement, the same ones for all results; "
    "they say how much the score depends on these images, not on training."
)


def protocols(
    stored: Mapping[str, Mapping[str, object]], line: Callable[[Mapping[str, object]], str]
) -> Html:
    """What made each result, in a line and in full; of several, what differs among them first.

    stored: protocol.json or the like, by the result's name; line: says it in short. A page is
    passed on: it does not say in which folders of a machine files were.
    """
    flat = {name: _settings(content) for name, content in stored.items()}
    parts = []
    if differing := _differing(flat):
        rows = [[key, *(shown(one.get(key)) for one in flat.values())] for key in differing]
        parts.append(element("h3", text("What differs")))
        parts.append(element("div", table(["setting", *flat], rows), class_="said"))
    for name, content in stored.items():
        parts.append(element("h3", text(name)))
        parts.append(element("p", text(without_folders(line(content)))))
        if content:
            rows = [[key, shown(value)] for key, value in flat[name].items()]
            whole = element("div", table(["setting", "value"], rows), class_="said")
            parts.append(folded("every setting", whole))
    return section("Protocol", *parts)


def _settings(content: Mapping[str, object]) -> dict[str, object]:
    """All settings by their names with dots."""
    every = flatten(content)
    return {key: value for key, value in every.items() if not key.startswith(UNSEEN)}


def _differing(flat: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The settings that results do not share, without those that always differ."""
    usual = ("run", "started_at", "finished_at", "command", "name", "seconds", "bytes")
    keys = dict.fromkeys(key for content in flat.values() for key in content)
    found = []
    for key in keys:
        values = {shown(content.get(key)) for content in flat.values()}
        if len(values) > 1 and key not in usual and not key.startswith("arguments."):
            found.append(key)
    return found


def shown(value: object) -> str:
    """A setting in a cell, paths without their folders."""
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    said = without_folders(said)
    return said if len(said) <= SHOWN else said[:SHOWN] + "…"


def left_out(lines: Mapping[str, str]) -> Html:
    """What --allow-missing left out, by the result's name."""
    rows = [[name, without_folders(line)] for name, line in lines.items() if line]
    if not rows:
        return Html("")
    return section("Left out", element("div", table(["result", "what"], rows), class_="said"))


def most_changed(now: Mapping[str, float], before: Mapping[str, float], count: int) -> list[str]:
    """Ids with the largest gains, then those with the largest losses, `count` each at most."""
    changes = {name: now[name] - before[name] for name in now if name in before}
    known = [name for name, value in changes.items() if value == value]
    ranked = sorted(known, key=lambda name: (-changes[name], name))
    gains = [name for name in ranked if changes[name] > 0][:count]
    losses = [name for name in ranked if changes[name] < 0][-count:]
    return gains + losses


def ranked_gallery(
    now: Floats,
    before: tuple[str, Floats] | None,
    count: int,
    entry: Callable[[int], Html],
    broad: bool = False,
) -> Html:
    """The entries with the best and worst scores [N]; those that changed most, too.

    before: the earlier result's name and scores; count: of each kind; entry: shows the one at a
    place; broad: of several images each.
    """

    def shown(places: Sequence[int]) -> Html:
        """The entries side by side."""
        return images.items([entry(place) for place in places], broad)

    order = np.argsort(-now, kind="stable").tolist()
    chosen = order if len(order) <= 2 * count else [*order[:count], *order[-count:]]
    sections = [section("Best and worst", shown(chosen), note="By IoU, best first.")]
    if before is not None:
        name, old = before
        change_of = now - old
        ranked = np.argsort(-change_of, kind="stable").tolist()
        gains = [place for place in ranked if change_of[place] > 0][:count]
        losses = [place for place in ranked if change_of[place] < 0][-count:]
        note = f"Gains over {name} first, then losses."
        sections.append(section("Most changed", shown(gains + losses), note=note))
    return Html("".join(sections))
