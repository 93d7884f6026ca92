"""Expressions that refer to one thing of an image: "the red star left of the house".

An expression says what it means as data (`Meaning`), and `matching` finds the things that fit. It
is unambiguous by construction: exactly one thing fits, and none other nearly does (`MARGIN`). A
stated share is ambiguous on purpose: several things fit, one of them is taken, and the line says
so, as labels of real data often are but do not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..objects import NOUNS
from ..palette import COLOURS
from ..picture import MIN_SHARE, UNSEEN, Contents, Thing, index_map, render, silhouette
from ..scenes import SCENES

SPLITS = ("train", "val", "testA", "testB")
ANIMALS = ("fish", "butterfly", "snail", "bird")  # what testA asks for, and testB does not
MARGIN = 0.08  # of the image's side: centres nearer than this are not told apart
SIZE_MARGIN = 1.35  # ratio of areas from which on one thing is bigger
AMBIGUOUS = 0.05  # share of expressions that several things fit
PER_IMAGE = 5  # expressions at most
HALF = (0.11, 0.25)  # half sizes, in shares of the image's side
TRIES = 12
MIN_VISIBLE = 0.7  # of a thing's own area that later things may leave
AXES = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}  # axis, sign
SIZES = {"biggest": 1, "smallest": -1}
RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Meaning:
    """What an expression says. order: a key of `AXES` or `SIZES`, among the things that fit else.

    relation: a key of `RELATIONS`, to the one thing of noun `anchor`.
    """

    noun: str | None = None
    colour: str | None = None
    order: str | None = None
    relation: str | None = None
    anchor: str | None = None


@dataclass(frozen=True)
class Reference:
    """An expression: its text, the thing it stands for, and how many things fit."""

    text: str
    meaning: Meaning
    target: int
    fitting: int


@dataclass(frozen=True)
class ReferSample:
    """image uint8 [S, S, 3] RGB; boxes: of what is visible of each thing, corners in pixels."""

    id: str
    image: np.ndarray
    contents: Contents
    boxes: tuple[Box, ...]
    references: tuple[Reference, ...]


def make_refer_sample(seed: int, split: str, index: int, size: int = 96) -> ReferSample:
    """Image `index` of a split: the same whatever else is made.

    Training images and expressions hold no pair of `palette.unseen_pairs()`; others may.
    """
    rng = np.random.default_rng([seed, 16, SPLITS.index(split), index])
    first = ANIMALS if split == "testA" else NOUNS
    contents = draw_crowd(rng, size, first, unseen=split != "train")
    shown = index_map(contents, size)
    image = render(contents, rng, size)
    boxes = tuple(box_of(shown == 2 + i) for i in range(len(contents.things)))
    references = draw_references(contents.things, rng, split)
    return ReferSample(f"{split}_{index:06d}", image, contents, boxes, references)


def box_of(mask: np.ndarray) -> Box:
    """The smallest box around a mask bool [H, W] that is not empty: left, top, right, bottom."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def draw_crowd(
    rng: np.random.Generator, size: int, first: Sequence[str] = NOUNS, *, unseen: bool
) -> Contents:
    """2 to 5 things of 1 to 3 nouns, one of them of `first`: a noun alone often fits several."""
    kinds = [str(first[int(rng.integers(len(first)))])]
    kinds += [str(noun) for noun in rng.choice(NOUNS, int(rng.integers(3)), replace=False)]
    placed: list[tuple[Thing, np.ndarray, int]] = []
    for _ in range(2 + int(rng.integers(4))):
        noun = str(kinds[rng.integers(len(kinds))])
        colours = [c for c in COLOURS if unseen or (noun, c) not in UNSEEN]
        colour = colours[int(rng.integers(len(colours)))]
        for _ in range(TRIES):
            thing = _place(noun, colour, rng)
            area = silhouette(thing, size)
            if _fits(area, placed):
                placed = [(t, visible & ~area, own) for t, visible, own in placed]
                placed.append((thing, area, int(area.sum())))
                break
    scenes = rng.choice(len(SCENES), 2, replace=False)
    if rng.random() < 0.5:
        return Contents(tuple(t for t, _, _ in placed), (SCENES[scenes[0]],))
    border, tilt = float(rng.uniform(0.3, 0.7)), float(rng.uniform(-0.25, 0.25))
    names, split = tuple(SCENES[i] for i in scenes), "over" if rng.random() < 0.5 else "beside"
    return Contents(tuple(t for t, _, _ in placed), names, split, border, tilt)


def _place(noun: str, colour: str, rng: np.random.Generator) -> Thing:
    half = float(np.exp(rng.uniform(*np.log(HALF))))
    x, y = (float(v) for v in rng.uniform(0.85 * half, 1 - 0.85 * half, 2))
    angle, flip = float(rng.uniform(-32, 32)), bool(rng.random() < 0.5)
    return Thing(noun, colour, x, y, half, angle=angle, flip=flip)


def _fits(area: np.ndarray, placed: Sequence[tuple[Thing, np.ndarray, int]]) -> bool:
    """Whether a new silhouette is large enough and leaves enough of every earlier thing."""
    if area.mean() < MIN_SHARE:
        return False
    for _, visible, own in placed:
        if (visible & ~area).sum() < max(MIN_VISIBLE * own, MIN_SHARE * area.size):
            return False
    return True


def matching(meaning: Meaning, things: Sequence[Thing], slack: int = 0) -> list[int]:
    """The things that an expression fits, by number.

    slack: 1 for those too that nearly fit, by a margin of `MARGIN` or `SIZE_MARGIN`; -1 for those
    alone whose relation holds by that margin.
    """
    fitting = [
        number
        for number, thing in enumerate(things)
        if meaning.noun in (None, thing.noun) and meaning.colour in (None, thing.colour)
    ]
    if meaning.relation is not None:
        fitting = _related(meaning, things, fitting, MARGIN * slack)
    if meaning.order is not None and fitting:
        fitting = _first(meaning.order, things, fitting, slack > 0)
    return fitting


def _related(
    meaning: Meaning, things: Sequence[Thing], fitting: Sequence[int], slack: float
) -> list[int]:
    """Those on the right side of the anchor; none when the anchor is not one thing."""
    anchors = [number for number, thing in enumerate(things) if thing.noun == meaning.anchor]
    if len(anchors) != 1 or meaning.relation is None:
        return []
    axis, sign = RELATIONS[meaning.relation]
    start = _centre(things[anchors[0]])[axis]
    others = [number for number in fitting if number != anchors[0]]
    return [n for n in others if sign * (_centre(things[n])[axis] - start) > -slack]


def _first(order: str, things: Sequence[Thing], fitting: Sequence[int], margin: bool) -> list[int]:
    """The one that is furthest or largest, and with `margin` those nearly so."""
    if order in SIZES:
        values = [SIZES[order] * np.log(things[n].half ** 2) for n in fitting]
        slack = float(np.log(SIZE_MARGIN))
    else:
        axis, sign = AXES[order]
        values = [sign * _centre(things[n])[axis] for n in fitting]
        slack = MARGIN
    best = max(values)
    least = best - slack if margin else best
    return [n for n, value in zip(fitting, values, strict=True) if value >= least]


def _centre(thing: Thing) -> tuple[float, float]:
    return thing.x, thing.y


def draw_references(
    things: Sequence[Thing], rng: np.random.Generator, split: str
) -> tuple[Reference, ...]:
    """Up to `PER_IMAGE` different expressions; in testA for animals alone, in testB for none."""
    clear, vague = [], []
    for meaning in meanings(things):
        fitting = matching(meaning, things)
        clearly = all(matching(meaning, things, slack) == fitting for slack in (-1, 1))
        if len(fitting) == 1 and clearly:
            clear.append((meaning, fitting))
        elif len(fitting) > 1 and meaning.order is None and meaning.relation is None:
            vague.append((meaning, fitting))
    chosen: list[Reference] = []
    while clear and len(chosen) < PER_IMAGE:
        pool = vague if vague and rng.random() < AMBIGUOUS else clear
        meaning, fitting = pool.pop(_drawn(pool, rng))
        target = fitting[int(rng.integers(len(fitting)))]
        if _asks(things[target].noun, split):
            chosen.append(Reference(write(meaning, rng), meaning, target, len(fitting)))
    return tuple(chosen)


def _asks(noun: str, split: str) -> bool:
    return split not in ("testA", "testB") or (noun in ANIMALS) == (split == "testA")


def _drawn(pool: Sequence[tuple[Meaning, list[int]]], rng: np.random.Generator) -> int:
    """A place in the pool: each kind of expression is as likely, however many there are."""
    kinds = [_kind(meaning) for meaning, _ in pool]
    names = sorted(set(kinds))
    name = names[int(rng.integers(len(names)))]
    places = [place for place, kind in enumerate(kinds) if kind == name]
    return places[int(rng.integers(len(places)))]


def _kind(meaning: Meaning) -> str:
    if meaning.relation:
        return "relation"
    if meaning.order:
        return "size" if meaning.order in SIZES else "place"
    return "colour" if meaning.colour else "noun"


def meanings(things: Sequence[Thing]) -> list[Meaning]:
    """Everything that might be said of the things, fitting or not, each once."""
    said: list[Meaning] = []
    nouns = list(dict.fromkeys(thing.noun for thing in things))
    for noun, colour in dict.fromkeys((thing.noun, thing.colour) for thing in things):
        said += [Meaning(noun), Meaning(noun, colour), Meaning(None, colour)]
        for relation in RELATIONS:
            for anchor in nouns:
                if anchor != noun:
                    said.append(Meaning(noun, None, None, relation, anchor))
                    said.append(Meaning(noun, colour, None, relation, anchor))
    for noun in nouns:
        if sum(thing.noun == noun for thing in things) > 1:
            said += [Meaning(noun, None, order) for order in (*AXES, *SIZES)]
    said += [Meaning(None, None, order) for order in SIZES]
    return list(dict.fromkeys(said))


def write(meaning: Meaning, rng: np.random.Generator) -> str:
    """The expression in words, one of a few ways."""
    noun = " ".join(word for word in (meaning.colour, meaning.noun or "thing") if word)
    if meaning.order is None:
        text = noun
    elif meaning.order in AXES and rng.random() < 0.4:
        place = {"top": "at the top", "bottom": "at the bottom"}
        text = f"{noun} {place.get(meaning.order, f'on the {meaning.order}')}"
    else:
        text = f"{meaning.order} {noun}"
    if meaning.relation is not None:
        text = f"{text} {meaning.relation} the {meaning.anchor}"
    return f"the {text}" if rng.random() < 0.6 else text
