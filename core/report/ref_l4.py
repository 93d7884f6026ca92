"""The report of Ref-L4: strict accuracy, by size and class of the box, the best and the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.bootstrap import Floats
from ..metrics.ref_l4 import LARGE, SMALL, class_rows, size_groups, strict_accuracies
from .boxes import BoxResult, accuracy_by_iou, gallery, scores, spread
from .parts.charts import Bar, bars, percent
from .parts.page import Html, element, folded, page, section, table, text
from .parts.sections import protocols

OFTEN, BARS = 5, 15  # phrases that a class with a bar has; bars of the best and of the worst
SIZES = {
    "small": f"below {SMALL} pixels",
    "medium": f"{SMALL} to {LARGE} pixels",
    "large": f"above {LARGE} pixels",
}


@dataclass(frozen=True)
class Truths:
    """What Ref-L4 groups N phrases by: sqrt(w h) of the true box, and `ori_category_id`."""

    sizes: Sequence[float]
    classes: Sequence[str]


def ref_l4_report(
    results: Sequence[BoxResult],
    truths: Truths,
    numbers: Sequence[Sequence[str]],
    before: BoxResult | None = None,
    count: int = 8,
) -> str:
    """The page of results (strict ones) over the same phrases; charts are of the first.

    numbers: the table that is printed, its head first; before: what the first is compared with;
    count: best and worst phrases. Images that cannot be read are left out.
    """
    first = results[0]
    every = [*results, *([before] if before is not None else [])]
    pictures = len({one.image for one in first.found})
    return page(
        "Boxes of Ref-L4",
        f"{first.tag}; {len(first.found)} phrases of {pictures} images",
        [
            scores(every, before),
            _numbers(numbers),
            protocols({one.tag: one.settings for one in every}, lambda stored: ""),
            _sizes(first, before, truths),
            _classes(first, before, truths),
            accuracy_by_iou(every),
            spread(first, before),
            gallery(first, before, count),
        ],
    )


def _numbers(rows: Sequence[Sequence[str]]) -> Html:
    """The release's numbers beside the published ones."""
    note = "A box is right where its IoU is above the threshold, in pixels; macc: the mean over "
    note += "0.50:0.95; class: the mean over classes, RefCOCO's by Objects365's names."
    return section("The release's numbers", table(rows[0], rows[1:]), note=note)


def _sizes(first: BoxResult, before: BoxResult | None, truths: Truths) -> Html:
    """Acc@0.5 of small, medium and large boxes, and the mean over thresholds."""
    rows, lines = [], []
    for name, inside in size_groups(np.array(truths.sizes, np.float64)).items():
        if not inside.any():
            continue
        half, mean = strict_accuracies(first.ious[inside])
        past = None if before is None else strict_accuracies(before.ious[inside])[0]
        total = int(inside.sum())
        rows.append(Bar(f"{name}, {SIZES[name]}", half, past, f"{total} phrases"))
        lines.append([name, total, percent(half), percent(mean)])
    shown = table(["box", "phrases", "Acc@0.5, %", "macc, %"], lines)
    return section("Size of the box", bars(rows), shown, note="By sqrt(w h) of the true box.")


def _classes(first: BoxResult, before: BoxResult | None, truths: Truths) -> Html:
    """Acc@0.5 of the best and worst classes that are not rare, and a table of all."""
    places = class_rows(truths.classes)
    by_class = {name: first.ious[own] for name, own in places.items()}
    ranked = sorted(by_class, key=lambda name: (-_half(by_class[name]), name))
    rows = []
    for name in ranked:
        rows.append([name, len(by_class[name]), *map(percent, strict_accuracies(by_class[name]))])
    common = [name for name in ranked if len(by_class[name]) >= OFTEN]
    if len(common) > 2 * BARS:
        common = [*common[:BARS], *common[-BARS:]]
    drawn = []
    for name in common:
        past = None if before is None else _half(before.ious[places[name]])
        drawn.append(Bar(name, _half(by_class[name]), past, f"{len(by_class[name])} phrases"))
    head = ["class", "phrases", "Acc@0.5, %", "macc, %"]
    note = f"Acc@0.5 of classes with {OFTEN} phrases or more, best first; of many the {BARS} best "
    note += f"and the {BARS} worst. Names are the release's ids."
    few = element("p", text("No class has so many phrases."), class_="note")
    whole = folded(f"all {len(rows)} classes", table(head, rows))
    return section("Classes", bars(drawn) if drawn else few, whole, note=note)


def _half(ious: Floats) -> float:
    """Acc@0.5 of a class's boxes."""
    return strict_accuracies(ious)[0]
