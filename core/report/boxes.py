"""The report of grounding: accuracy by IoU, by length and size, the best and the worst boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..metrics.bootstrap import Floats, by_image, mean_of
from ..metrics.boxes import by_length, by_size
from ..metrics.ref_l4 import above
from ..plots.boxes import FOUND, TRUE, Labelled, draw_boxes
from .parts import images
from .parts.charts import Bar, Line, bars, histogram, lines, percent, signed
from .parts.page import Html, element, numbers, page, section, table, text
from .parts.sections import DRAWN, change, protocols, range_words, ranked_gallery, scored

STEPS = tuple(round(0.05 * k, 2) for k in range(1, 20))
RIGHT = 0.5  # IoU from which a box counts as right
EARLIER = (120, 130, 140)
COLOURS = ((TRUE, "true"), (FOUND, "found"))
Pixels = npt.NDArray[np.uint8]
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Found:
    """A phrase and the box found for it: corners in the image's pixels, its IoU with the true one.

    image: which one it is; read: reads it, uint8 [H, W, 3]; share: of the true box in the image.
    """

    image: str
    text: str
    box: Corners
    truth: Corners
    iou: float
    share: float
    read: Callable[[], Pixels]


@dataclass(frozen=True)
class BoxResult:
    """A model, the boxes that it found in a list of phrases, and what the model is.

    strict: a box is right above a threshold, not at it, as Ref-L4 has it.
    """

    tag: str
    found: Sequence[Found]
    settings: Mapping[str, object]
    strict: bool = False

    @property
    def ious(self) -> Floats:
        """IoU of every phrase [N]."""
        return np.array([one.iou for one in self.found], np.float64)

    def right(self, threshold: float = RIGHT) -> npt.NDArray[np.bool_]:
        """Which boxes are right when so much IoU is asked for, bool [N]."""
        return above(self.ious, threshold) if self.strict else self.ious >= threshold


def boxes_report(
    name: str,
    results: Sequence[BoxResult],
    lists: Sequence[Sequence[str]],
    before: BoxResult | None = None,
    count: int = 8,
) -> str:
    """The page of results over the same phrases; charts are of the first.

    name: of the list of phrases; lists: the table that is printed, its head first; before: what
    the first is compared with; count: best and worst phrases.
    """
    first = results[0]
    every = [*results, *([before] if before is not None else [])]
    pictures = len({one.image for one in first.found})
    return page(
        f"Boxes of {name}",
        f"{first.tag}; {len(first.found)} phrases of {pictures} images",
        [
            scores(every, before),
            section("All lists", table(lists[0], lists[1:])),
            protocols({one.tag: one.settings for one in every}, lambda stored: ""),
            _groups(first, before),
            accuracy_by_iou(every),
            spread(first, before),
            gallery(first, before, count),
        ],
    )


def sums_of(one: BoxResult) -> Floats:
    """Right boxes and phrases of each image, float64 [images, 2]; see `mean_of`."""
    right = one.right().astype(np.float64)
    values = np.stack([right, np.ones(len(right))], axis=1)
    return by_image([item.image for item in one.found], values)


def scores(results: Sequence[BoxResult], before: BoxResult | None) -> Html:
    """Acc@0.5 and mean IoU of all results."""
    rows, drawn = [], {}
    for one in results:
        drawn[one.tag] = scored(sums_of(one), mean_of)
        found, mean = drawn[one.tag][0], float(one.ious.mean())
        middle = f"{percent(found.low)} to {percent(found.high)}"
        rows.append([one.tag, percent(found.value), middle, percent(mean)])
    first = results[0].tag
    cards = [("Acc@0.5, %", percent(drawn[first][0].value), range_words(drawn[first][0]))]
    if before is not None:
        cards.append(change(drawn[first], drawn[before.tag], before.tag))
    head = ["result", "Acc@0.5, %", "95 % interval", "mean IoU, %"]
    return section("Scores", numbers(cards), table(head, rows, strong=len(rows)), note=DRAWN)


def _groups(first: BoxResult, before: BoxResult | None) -> Html:
    """Acc@0.5 by length of the phrase and size of the true box."""
    texts = [one.text for one in first.found]
    shares = np.array([one.share for one in first.found], np.float64)
    groups = {"words": by_length(first.ious, texts), "box": by_size(first.ious, shares)}
    old = {}
    if before is not None:
        old = {"words": by_length(before.ious, texts), "box": by_size(before.ious, shares)}
    rows = []
    for kind, found in groups.items():
        for name, (number, value) in found.items():
            past = old[kind][name][1] if old else None
            label = f"{name} words" if kind == "words" else f"{name} box"
            if number:
                rows.append(Bar(label, value, past, f"{number} phrases"))
    note = "Acc@0.5 by the number of words and by the true box's share of the image."
    return section("Groups", bars(rows), note=note)


def accuracy_by_iou(results: Sequence[BoxResult]) -> Html:
    """How accuracy falls with the IoU that is asked for."""
    drawn = []
    for number, one in enumerate(results):
        values = np.array([float(one.right(step).mean()) for step in STEPS])
        drawn.append(Line(one.tag, values, dashed=number > 0))
    title = f"IoU {'above' if results[0].strict else 'from'} which a box is right"
    chart = lines(STEPS, drawn, title, "accuracy, %", mark=RIGHT, peaks=False)
    return section("Accuracy by IoU", chart)


def spread(first: BoxResult, before: BoxResult | None) -> Html:
    """How phrases differ."""
    old = None if before is None else before.ious
    return section("Phrases", histogram(first.ious, old, "IoU of a box"))


def gallery(first: BoxResult, before: BoxResult | None, count: int) -> Html:
    """The best and worst boxes; of two results those that changed most, too."""
    old = None if before is None else (before.tag, before.ious)
    return ranked_gallery(first.ious, old, count, lambda place: _entry(first, before, place))


def _entry(first: BoxResult, before: BoxResult | None, place: int) -> Html:
    """An image with the true box, the one found, and the earlier one."""
    one = first.found[place]
    boxes, key = [(one.truth, TRUE), (one.box, FOUND)], list(COLOURS)
    title = f"IoU {percent(one.iou)}"
    if before is not None:
        earlier = before.found[place]
        title += f" ({signed(one.iou - earlier.iou)})"
        boxes.insert(1, (earlier.box, EARLIER))
        key.append((EARLIER, "before"))
    said = element("p", text(one.text))
    photo = images.found(one.read)
    if photo is None:
        return images.item(title, images.not_found(), said)
    drawn = [Labelled(_inside(box, photo), "", colour) for box, colour in boxes]
    picture = np.asarray(draw_boxes(photo, drawn, side=images.SIDE))
    shown = images.views([("", images.image(picture, one.text))])
    return images.item(title, shown, images.key(key), said)


def _inside(box: Corners, photo: Pixels) -> Corners:
    """The part of a box that is in the image [H, W, 3]; files hold boxes of any kind."""
    high, wide = photo.shape[:2]
    left, right = (min(max(value, 0.0), wide - 1.0) for value in sorted((box[0], box[2])))
    top, bottom = (min(max(value, 0.0), high - 1.0) for value in sorted((box[1], box[3])))
    return left, top, right, bottom
