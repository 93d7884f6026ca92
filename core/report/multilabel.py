"""The report of multi-label recognition: mAP on every reading, classes, the ranking's mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..data.images import read_image
from ..data.multilabel.label_sets import LabelSet, Variant
from ..evaluation.multilabel.scoring import chance, precisions_of
from ..evaluation.multilabel.table import class_rows, table_of
from ..metrics.bootstrap import Floats, Interval, interval
from ..metrics.multilabel import MAP_DRAWS, drawn_means, mean_precision
from ..plots.gallery import best_and_worst
from ..utils.shown import first_few, without_folders
from .parts import images
from .parts.charts import Bar, bars, percent, signed
from .parts.page import Html, element, folded, join, numbers, page, section, table, text
from .parts.sections import change, difference, protocols, range_of, range_words

EACH = 3  # images of a class that are ranked too high, and too low
NAMES = 6  # true classes that are named below an image
Drawn = tuple[Interval, Floats]  # a score with its interval, and that of every draw
DRAWN = (
    f"Intervals: the images drawn {MAP_DRAWS} times with replacement, the same ones for all "
    "results, and moved to the score in the middle, as repeated images raise it; they say how much "
    "the score depends on these images."
)


@dataclass(frozen=True)
class ClassScores:
    """A result: its name, the scores [N, C] of a set's images, and what made it."""

    name: str
    scores: Floats
    settings: Mapping[str, object]


def multilabel_report(
    labels: LabelSet,
    results: Sequence[ClassScores],
    drawn: Mapping[str, Sequence[Drawn]],
    notes: Sequence[str] = (),
    before: ClassScores | None = None,
    count: int = 3,
) -> str:
    """The page of results over the same images; charts are of the first, on the first reading.

    drawn: `drawn_map` of every result and of `before` on each reading, by name; notes: what is
    printed below the table; before: what the first is compared with; count: best and worst classes
    with images. Images that cannot be read are left out.
    """
    first = results[0]
    every = [*results, *([before] if before is not None else [])]
    return page(
        f"Classes of {without_folders(labels.title)}",
        f"{first.name}; {len(labels)} images, {len(labels.classes)} classes",
        [
            _scores(labels, first, {name: own[0] for name, own in drawn.items()}, before),
            _readings(labels, every, notes, _intervals(labels, first, drawn, before)),
            protocols({one.name: one.settings for one in every}, _line),
            _classes(labels, every, before),
            _gallery(labels, first, count),
        ],
    )


def drawn_map(one: ClassScores, variant: Variant) -> Drawn:
    """mAP on a reading with its interval, and the mAP of every draw of its images.

    The draws are moved to have the score as their mean. Average precision of a draw is too high:
    an image that is drawn twice stands beside itself in the ranking.
    """
    rows = variant.rows
    value = mean_precision(precisions_of(one.scores, variant))
    if not rows.any():
        return Interval(value, value, value), np.full(MAP_DRAWS, np.nan)
    found = drawn_means(one.scores[rows], variant.truth[rows], variant.scored[rows])
    if not np.isnan(value):
        found = found - (np.nanmean(found) - value)
    return interval(value, found), found


def _line(stored: Mapping[str, object]) -> str:
    """What made a result, in short."""
    return ", ".join(str(stored[key]) for key in ("arch", "names", "view") if key in stored)


def _scores(
    labels: LabelSet, first: ClassScores, drawn: Mapping[str, Drawn], before: ClassScores | None
) -> Html:
    """mAP on the first reading, with intervals."""
    variant = labels.variants[0]
    rows = []
    for name, (found, _) in drawn.items():
        rows.append([name, percent(found.value), f"{percent(found.low)} to {percent(found.high)}"])
    main = drawn[first.name]
    cards = [("mAP, %", percent(main[0].value), range_words(main[0]))]
    if before is not None:
        cards.append(change(main, drawn[before.name], before.name))
    constant = mean_precision(chance(variant))
    cards.append(("without a model", percent(constant), "a constant score"))
    head = ["result", f"mAP, {variant.name}, %", "95 % interval"]
    note = f"On the labels as {variant.name} reads them. {DRAWN}"
    return section("Scores", numbers(cards), table(head, rows, strong=len(rows)), note=note)


def _readings(
    labels: LabelSet, results: Sequence[ClassScores], notes: Sequence[str], intervals: Html
) -> Html:
    """Every reading of the labels beside the others, the published rows, and the intervals."""
    rows = table_of(labels, {one.name: one.scores for one in results})
    said = [element("p", text(without_folders(line)), class_="note") for line in notes]
    return section("Readings of the labels", table(rows[0], rows[1:]), *said, intervals)


def _intervals(
    labels: LabelSet,
    first: ClassScores,
    drawn: Mapping[str, Sequence[Drawn]],
    before: ClassScores | None,
) -> Html:
    """The interval of every result on each reading, and of what has changed; "" for one reading."""
    if len(labels.variants) < 2:
        return Html("")
    rows = []
    for name, own in drawn.items():
        cells = [range_of(found) for found, _ in own]
        rows.append([name, *cells])
    if before is not None:
        pairs = zip(drawn[first.name], drawn[before.name], strict=True)
        changes = [range_of(difference(now, old), signed) for now, old in pairs]
        rows.append([f"change, points, against {before.name}", *changes])
    head = ["95 % interval, %", *(variant.name for variant in labels.variants)]
    note = "Each reading draws the images that it scores; - where it has no positives."
    return join([table(head, rows), element("p", text(note), class_="note")])


def _classes(labels: LabelSet, results: Sequence[ClassScores], before: ClassScores | None) -> Html:
    """A bar for each class that has positives, the best first, and a table of all results."""
    variant = labels.variants[0]
    values = precisions_of(results[0].scores, variant)
    old = None if before is None else precisions_of(before.scores, variant)
    counts = (variant.truth & variant.scored)[variant.rows].sum(0)
    rows = []
    for k in np.argsort(-np.nan_to_num(values, nan=-1), kind="stable").tolist():
        if np.isnan(values[k]):
            continue
        past = None if old is None else float(old[k])
        rows.append(Bar(_said(labels.classes[k]), float(values[k]), past, f"in {counts[k]}"))
    cells = class_rows(labels, {one.name: one.scores for one in results})
    whole = folded("every class, every result", table(cells[0], cells[1:]))
    note = "Average precision in percent, and in how many images the class is."
    if before is not None:
        note += f" Grey: {before.name}."
    return section("Classes", bars(rows), whole, note=note)


def _said(name: str) -> str:
    """A class without its synonyms."""
    return name.split("|")[0]


def _gallery(labels: LabelSet, first: ClassScores, count: int) -> Html:
    """Of the best and the worst classes the images that are ranked too high and too low."""
    values = precisions_of(first.scores, labels.variants[0]).tolist()
    places = {name: k for k, name in enumerate(labels.classes)}
    parts = []
    for name in best_and_worst(dict(zip(labels.classes, values, strict=True)), count):
        k = places[name]
        parts.append(element("h3", text(f"{_said(name)}: average precision {percent(values[k])}")))
        parts.append(_mistakes(labels, first.scores[:, k], k))
    note = f"The {count} best classes and the {count} worst, best first: of each the {EACH} "
    note += "highest images without the class in their labels, and the lowest with it."
    return section("Ranked too high, ranked too low", *parts, note=note)


def _mistakes(labels: LabelSet, scores: Floats, k: int) -> Html:
    """Images of class k that stand above one with the class, or below one without; scores [N]."""
    variant = labels.variants[0]
    counted = variant.rows & variant.scored[:, k]
    true, other = counted & variant.truth[:, k], counted & ~variant.truth[:, k]
    if not other.any() or scores[true].min() > scores[other].max():
        said = "Every image with the class stands above every other one."
        return element("p", text(said), class_="note")
    order = np.argsort(-scores, kind="stable")
    high = [row for row in order.tolist() if other[row] and scores[row] >= scores[true].min()]
    low = [row for row in order.tolist() if true[row] and scores[row] <= scores[other].max()]
    shown = []
    for row in [*high[:EACH], *low[-EACH:][::-1]]:
        rank = int((scores[counted] >= scores[row]).sum())
        title = f"place {rank} of {int(counted.sum())}, score {scores[row]:.3g}"
        shown.append(_entry(labels, row, title, bool(true[row])))
    return images.items(shown)


def _entry(labels: LabelSet, row: int, title: str, there: bool) -> Html:
    """An image, whether it has the class, and what else it shows."""
    variant, path = labels.variants[0], labels.images[row]
    photo = images.found(partial(read_image, path))
    picture = images.not_found()
    if photo is not None:
        picture = images.views([("", images.image(photo, path.name))])
    word, kind = ("there", "hit") if there else ("not there", "false")
    mark = element("span", text(word), class_=kind)
    true = np.flatnonzero(variant.truth[row] & variant.scored[row]).tolist()
    names = first_few([_said(labels.classes[k]) for k in true], NAMES)
    said = join([mark, text(f"labels: {names or 'none'}")], " ")
    return images.item(f"{path.name}: {title}", picture, element("p", said))
