"""Words that tell objects of one class apart: left, right, middle, top, bottom, front, behind."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.grounding import Box
from .objects import area

APART = 50.0  # pixels that centres must range over before a side is named: meant for 640 x 480
DEPTH = 0.4  # smallest over largest area below which one is behind and one in front
FRONT = 0.8  # of the largest area: in front too
SIDES = ("left", "right")
WITHIN = ("front", "behind", "middle", "center")


def spatial_words(
    boxes: Sequence[Box], width: int, height: int, *, apart: float = APART, parity: bool = False
) -> list[tuple[str, ...]]:
    """The words of each of N boxes of one class in an image of `width` x `height` pixels.

    Alone, a box has none. apart: pixels that their centres must range over before a side is named.
    parity: the published rule for "top" compares with a quarter of the width, which is meant to be
    the height.
    """
    words: list[list[str]] = [[] for _ in boxes]
    if len(boxes) < 2:
        return [() for _ in boxes]
    upper = (width if parity else height) / 4
    xs = [(box[0] + box[2]) / 2 for box in boxes]
    ys = [(box[1] + box[3]) / 2 for box in boxes]
    if max(xs) - min(xs) > apart:
        _beside(xs, width, words)
    if max(ys) - min(ys) > apart:
        _above(ys, upper, 3 * height / 4, words)
    _behind([area(box) for box in boxes], words)
    return [tuple(items) for items in words]


def _beside(xs: Sequence[float], width: int, words: list[list[str]]) -> None:
    """Left and right for the outermost; of three the third is in the middle; of more by quarter."""
    first, last = _ends(xs)
    words[first].append("left")
    words[last].append("right")
    for place in _rest(xs, first, last):
        if len(xs) > 3 and xs[place] > 3 * width / 4:
            words[place].append("right")
        elif len(xs) > 3 and xs[place] < width / 4:
            words[place].append("left")
        else:
            words[place] += ["middle", "center"]


def _above(ys: Sequence[float], upper: float, lower: float, words: list[list[str]]) -> None:
    """Top and bottom for the outermost, and for others beyond `upper` and `lower`."""
    first, last = _ends(ys)
    words[last].append("bottom")
    words[first].append("top")
    for place in _rest(ys, first, last):
        if ys[place] > lower:
            words[place].append("bottom")
        elif ys[place] < upper:
            words[place].append("top")


def _behind(areas: Sequence[float], words: list[list[str]]) -> None:
    """The largest is in front and the smallest behind; of more than three also those like them."""
    first, last = _ends(areas)
    if areas[first] / areas[last] >= DEPTH:
        return
    words[first].append("behind")
    words[last].append("front")
    for place in _rest(areas, first, last) if len(areas) > 3 else ():
        share = areas[place] / areas[last]
        if share < DEPTH:
            words[place].append("behind")
        elif share > FRONT:
            words[place].append("front")


def _ends(values: Sequence[float]) -> tuple[int, int]:
    """Places of the smallest and the largest value, the first of equals."""
    return values.index(min(values)), values.index(max(values))


def _rest(values: Sequence[float], first: int, last: int) -> list[int]:
    return [place for place in range(len(values)) if place not in (first, last)]


def placed(noun: str, word: str) -> str | None:
    """ "man on the left", "man in the middle"; None for words that are not said so."""
    if word in SIDES:
        return f"{noun} on the {word}"
    return f"{noun} in the {word}" if word in WITHIN else None
