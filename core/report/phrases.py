"""The report of phrases' masks: scores, groups, how IoUs spread, the best and worst phrases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.bootstrap import Floats, by_image, mean_of
from .parts import images
from .parts.charts import Bar, Line, bars, histogram, lines, percent, signed
from .parts.overlays import Mask, overlays
from .parts.page import Html, element, numbers, page, section, table, text
from .parts.sections import DRAWN, change, protocols, range_words, ranked_gallery, scored

STEPS = tuple(round(0.02 * k, 2) for k in range(51))
HALF = 0.5  # IoU above which a mask is right


@dataclass(frozen=True)
class PhraseMask:
    """A phrase of an image and the mask found for it.

    image: which one it is; name: of the phrase, for its title; iou: with the truth, NaN where
    nothing is true. groups: what it belongs to. read: gives the image, uint8 [H, W, 3]; masks: the
    true and the found mask, bool [H, W].
    """

    image: str
    name: str
    text: str
    iou: float
    groups: tuple[str, ...]
    read: Callable[[], images.Pixels]
    masks: Callable[[], tuple[Mask, Mask]]


@dataclass(frozen=True)
class PhraseResult:
    """A result: its name, the masks of a benchmark's phrases, and what made them."""

    tag: str
    found: Sequence[PhraseMask]
    settings: Mapping[str, object]

    @property
    def ious(self) -> Floats:
        """IoU of every phrase [N]."""
        return np.array([one.iou for one in self.found], np.float64)


@dataclass(frozen=True)
class Benchmark:
    """What is said of a benchmark.

    measure: what the mean IoU of its phrases is called. cards: further scores (name, value, what
    stands below it). rows: the table that is printed, its head first; notes: what is said with it.
    intervals: a table of further scores, its head first, and drawing: how their images are drawn.
    """

    title: str
    measure: str
    cards: Sequence[tuple[str, str, str]]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    intervals: Sequence[Sequence[str]] = ()
    drawing: str = ""


def phrases_report(
    benchmark: Benchmark,
    first: PhraseResult,
    before: PhraseResult | None = None,
    alarms: Sequence[PhraseMask] = (),
    count: int = 6,
) -> str:
    """The page of a result.

    before: what it is compared with, of the same phrases in the same order; alarms: masks of
    phrases that are not in their image; count: best and worst phrases. Images that cannot be read
    are left out.
    """
    every = [first, *([before] if before is not None else [])]
    head, *rows = benchmark.rows
    pictures = len({one.image for one in first.found})
    said = [element("p", text(line), class_="note") for line in benchmark.notes if line]
    return page(
        f"Masks of phrases of {benchmark.title}",
        f"{first.tag}; {len(first.found)} phrases of {pictures} images",
        [
            _scores(benchmark, every),
            section(
                "Beside published results", table(benchmark.rows[0], benchmark.rows[1:]), *said
            ),
            protocols({one.tag: one.settings for one in every}, lambda stored: ""),
            _groups(benchmark, first, before),
            _recall(every),
            _spread(first, before),
            _gallery(first, before, count),
            _alarms(alarms, count),
        ],
    )


def sums_of(one: PhraseResult) -> Floats:
    """IoUs and phrases of each image, float64 [images, 2]; see `mean_of`."""
    values = np.stack([one.ious, np.ones(len(one.found))], axis=1)
    return by_image([item.image for item in one.found], values)


def _scores(benchmark: Benchmark, results: Sequence[PhraseResult]) -> Html:
    """The mean IoU with its interval, and what else the benchmark counts."""
    more = Html("")
    if benchmark.intervals:
        more = table(benchmark.intervals[0], benchmark.intervals[1:])
    note = f"{DRAWN} {benchmark.drawing}".strip()
    if not results[0].found:
        return section("Scores", numbers(benchmark.cards), more, note=note if more else "")
    rows, drawn = [], []
    for one in results:
        drawn.append(scored(sums_of(one), mean_of))
        found, right = drawn[-1][0], float((one.ious > HALF).mean())
        spread = f"{percent(found.low)} to {percent(found.high)}"
        rows.append([one.tag, percent(found.value), spread, percent(right)])
    cards = [(f"{benchmark.measure}, %", percent(drawn[0][0].value), range_words(drawn[0][0]))]
    if len(drawn) > 1:
        cards.append(change(drawn[0], drawn[1], results[1].tag))
    head = ["result", f"{benchmark.measure}, %", "95 % interval", "IoU > 0.5, %"]
    shown = table(head, rows, strong=len(rows))
    return section("Scores", numbers([*cards, *benchmark.cards]), shown, more, note=note)


def _groups(benchmark: Benchmark, first: PhraseResult, before: PhraseResult | None) -> Html:
    """The mean IoU of every group."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(first.found):
        for name in one.groups:
            places.setdefault(name, []).append(place)
    rows = []
    for name, own in places.items():
        past = None if before is None else float(before.ious[own].mean())
        rows.append(Bar(name, float(first.ious[own].mean()), past, f"{len(own)} phrases"))
    note = f"{benchmark.measure[:1].upper()}{benchmark.measure[1:]} in percent."
    return section("Groups", bars(rows) if rows else Html(""), note=note)


def _recall(results: Sequence[PhraseResult]) -> Html:
    """How many phrases reach the IoU that is asked for; the area below is the average recall."""
    if not results[0].found:
        return Html("")
    drawn = []
    for number, one in enumerate(results):
        values = np.array([float((one.ious >= step).mean()) for step in STEPS])
        drawn.append(Line(one.tag, values, dashed=number > 0))
    chart = lines(STEPS, drawn, "IoU that is asked for", "phrases, %", peaks=False)
    return section("Recall by IoU", chart, note="The area below the line is the mean IoU.")


def _spread(first: PhraseResult, before: PhraseResult | None) -> Html:
    """How phrases differ."""
    if not first.found:
        return Html("")
    old = None if before is None else before.ious
    return section("Phrases", histogram(first.ious, old, "IoU of a phrase"))


def _gallery(first: PhraseResult, before: PhraseResult | None, count: int) -> Html:
    """The best and worst phrases; of two results those that changed most, too."""
    old = None if before is None else (before.tag, before.ious)

    def entry(place: int) -> Html:
        """A phrase, and its mask before."""
        return _entry(first.found[place], None if before is None else before.found[place])

    return ranked_gallery(first.ious, old, count, entry, broad=True)


def _alarms(alarms: Sequence[PhraseMask], count: int) -> Html:
    """Masks of phrases that are not in their image."""
    if not alarms:
        return Html("")
    shown = images.items([_entry(one, None) for one in alarms[:count]], broad=True)
    note = f"{len(alarms)} phrases have a mask that no annotator saw; the first {count} of them."
    return section("False alarms", shown, note=note)


def _entry(one: PhraseMask, earlier: PhraseMask | None) -> Html:
    """One phrase with its image, the truth and what was found."""
    truth, found = one.masks()
    masks = [("truth", truth), ("prediction", found)]
    title = one.name if np.isnan(one.iou) else f"{one.name}: {percent(one.iou)}"
    if earlier is not None:
        title += f" ({signed(one.iou - earlier.iou)})"
        masks.append(("before", earlier.masks()[1]))
    shown = overlays(images.found(one.read), one.name, masks)
    return images.item(title, shown, element("p", text(one.text)))
