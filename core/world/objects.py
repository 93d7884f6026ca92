"""The 26 things of the world. Each has its own silhouette and its own inner pattern, in one colour plus accents.

A shape is a list of `Part`s painted in order. Nouns are listed from the most frequent to the
rarest.
"""

from collections.abc import Callable

import numpy as np

from .geometry import Part, arc, box, dark, disc, light, line, main, poly, star, stroke, turned

SHAPES: dict[str, Callable[[], list[Part]]] = {}


def _shape(build: Callable[[], list[Part]]) -> Callable[[], list[Part]]:
    SHAPES[build.__name__] = build
    return build


@_shape
def car() -> list[Part]:
    """Low body with a cabin, two light windows, two black wheels."""
    body = poly(-1, 0.4, -1, -0.05, -0.6, -0.12, -0.35, -0.6, 0.4, -0.6, 0.65, -0.1, 1, 0, 1, 0.4)
    windows = (
        poly(-0.45, -0.1, -0.27, -0.46, 0.0, -0.46, 0.0, -0.1),
        poly(0.1, -0.1, 0.1, -0.46, 0.33, -0.46, 0.5, -0.1),
    )
    wheels = [dark(disc(x, 0.42, 0.27)) for x in (-0.55, 0.55)]
    return [
        main(body),
        light(*windows),
        *wheels,
        *(light(disc(x, 0.42, 0.11)) for x in (-0.55, 0.55)),
    ]


@_shape
def tree() -> list[Part]:
    """Three stacked tiers on a dark trunk."""
    tiers = [
        main(poly(-w, y, 0, y - 0.75, w, y)) for w, y in ((0.8, 0.6), (0.65, 0.15), (0.5, -0.25))
    ]
    cuts = [dark(line(-w, y, w, y, 0.09)) for w, y in ((0.62, 0.13), (0.48, -0.27))]
    return [dark(box(-0.16, 0.55, 0.16, 1)), *tiers, *cuts]


@_shape
def house() -> list[Part]:
    """Square walls, dark gabled roof, light window with a cross, dark door."""
    window = box(-0.58, 0.1, -0.05, 0.55)
    cross = (line(-0.32, 0.1, -0.32, 0.55, 0.08), line(-0.58, 0.32, -0.05, 0.32, 0.08))
    roof = dark(poly(-1, -0.15, 0, -0.95, 1, -0.15))
    return [
        main(box(-0.78, -0.2, 0.78, 0.9)),
        roof,
        light(window),
        dark(*cross),
        dark(box(0.18, 0.2, 0.55, 0.9)),
    ]


@_shape
def fish() -> list[Part]:
    """Ellipse with a forked tail, dark upright stripes, a light eye."""
    stripes = [
        dark(line(x, -h, x, h, 0.13)) for x, h in ((-0.05, 0.48), (0.22, 0.42), (0.45, 0.26))
    ]
    tail = poly(0.45, 0, 1, -0.5, 0.85, 0, 1, 0.5)
    return [
        main(tail),
        main(disc(-0.15, 0, 0.8, 0.52)),
        *stripes,
        light(disc(-0.6, -0.12, 0.15)),
        dark(disc(-0.62, -0.12, 0.07)),
    ]


@_shape
def flower() -> list[Part]:
    """Six petals round a light disc with a dark dot."""
    petals = [main(turned(disc(0, -0.6, 0.3, 0.4), 60 * k)) for k in range(6)]
    return [*petals, light(disc(0, 0, 0.33)), dark(disc(0, 0, 0.16))]


@_shape
def boat() -> list[Part]:
    """Hull with portholes, mast, one light triangular sail and one of the hull's colour."""
    hull = main(poly(-1, 0.35, 1, 0.35, 0.65, 0.9, -0.65, 0.9))
    sails = [
        light(poly(-0.08, -0.9, -0.08, 0.2, -0.8, 0.2)),
        main(poly(0.1, -0.7, 0.1, 0.2, 0.65, 0.2)),
    ]
    return [
        dark(line(0, -0.95, 0, 0.4, 0.1)),
        hull,
        *sails,
        *(light(disc(x, 0.58, 0.09)) for x in (-0.4, 0, 0.4)),
    ]


@_shape
def umbrella() -> list[Part]:
    """Half disc with a scalloped edge and dark ribs, over a hooked handle."""
    dome = np.concatenate(
        [
            arc(0, 0.05, 1, 0.95, 180, 360),
            *(arc(x, 0.05, 0.25, 0.16, 0, -180, 8) for x in (0.75, 0.25, -0.25, -0.75)),
        ]
    )
    ribs = [dark(line(0, -0.85, x, -0.05, 0.06)) for x in (-0.5, 0, 0.5)]
    handle = stroke(
        np.concatenate([poly(0, -0.1, 0, 0.35), arc(0.18, 0.75, 0.18, 0.2, 180, 0, 10)]), 0.11
    )
    return [dark(handle), main(dome), *ribs]


@_shape
def ball() -> list[Part]:
    """Disc with light and coloured sectors, as a beach ball has."""
    sectors = [
        light(np.concatenate([poly(0, 0), arc(0, 0, 0.9, 0.9, a, a + 45, 8)]))
        for a in (0, 90, 180, 270)
    ]
    return [main(disc(0, 0, 0.9)), *sectors, dark(disc(0, 0, 0.14))]


@_shape
def mushroom() -> list[Part]:
    """Domed cap with light spots on a light stalk."""
    cap = np.concatenate([arc(0, 0.1, 0.95, 0.95, 180, 360), poly(0.7, 0.22, -0.7, 0.22)])
    spots = [
        light(disc(x, y, r))
        for x, y, r in ((-0.5, -0.2, 0.17), (0.02, -0.5, 0.19), (0.52, -0.18, 0.16))
    ]
    return [light(poly(-0.24, 0.15, 0.24, 0.15, 0.34, 0.95, -0.34, 0.95)), main(cap), *spots]


@_shape
def star_() -> list[Part]:
    """Five-pointed star with a smaller dark star line inside."""
    return [main(star(5, 1, 0.42)), dark(star(5, 0.6, 0.25), star(5, 0.36, 0.15))]


SHAPES["star"] = SHAPES.pop("star_")  # the helper that makes the polygon carries the same name


@_shape
def clock() -> list[Part]:
    """Ring of colour round a white face with two dark hands, on two feet."""
    hands = (line(0, 0.05, 0, -0.42, 0.12), line(-0.05, 0, 0.34, 0.12, 0.12))
    feet = [dark(line(x * 0.5, 0.6, x * 0.75, 0.98, 0.16)) for x in (-1, 1)]
    return [
        *feet,
        main(disc(0, 0, 0.88)),
        light(disc(0, 0, 0.58)),
        dark(*hands[:1]),
        dark(*hands[1:]),
    ]


@_shape
def butterfly() -> list[Part]:
    """Four wings with light spots, a dark body and feelers."""
    wings = [main(disc(s * 0.52, -0.35, 0.46, 0.5)) for s in (-1, 1)] + [
        main(disc(s * 0.42, 0.45, 0.36, 0.4)) for s in (-1, 1)
    ]
    spots = [light(disc(s * 0.58, -0.38, 0.17)) for s in (-1, 1)] + [
        light(disc(s * 0.46, 0.48, 0.13)) for s in (-1, 1)
    ]
    feelers = [dark(line(0, -0.5, s * 0.25, -0.98, 0.07)) for s in (-1, 1)]
    return [*wings, *spots, *feelers, dark(disc(0, 0, 0.12, 0.75))]


@_shape
def rocket() -> list[Part]:
    """Pointed hull with a porthole, dark fins and a light flame."""
    hull = poly(0, -1, 0.22, -0.7, 0.33, -0.3, 0.33, 0.5, -0.33, 0.5, -0.33, -0.3, -0.22, -0.7)
    fins = [dark(poly(s * 0.33, 0.0, s * 0.75, 0.65, s * 0.33, 0.5)) for s in (-1, 1)]
    flame = light(poly(-0.25, 0.5, 0.25, 0.5, 0.12, 0.72, 0, 1, -0.12, 0.72))
    return [
        *fins,
        flame,
        main(hull),
        light(disc(0, -0.25, 0.19)),
        dark(line(-0.33, 0.22, 0.33, 0.22, 0.1)),
    ]


@_shape
def cup() -> list[Part]:
    """Tapered mug with two light bands and a ring handle."""
    handle = main(disc(0.62, 0.05, 0.38, 0.42), disc(0.62, 0.05, 0.2, 0.24))
    bands = [
        light(poly(-w, y, w, y, w - 0.02, y + 0.2, 0.02 - w, y + 0.2))
        for w, y in ((0.6, -0.3), (0.52, 0.25))
    ]
    return [
        handle,
        main(poly(-0.7, -0.8, 0.7, -0.8, 0.48, 0.85, -0.48, 0.85)),
        *bands,
        dark(box(-0.7, -0.85, 0.7, -0.68)),
    ]


@_shape
def heart() -> list[Part]:
    """Heart with a light zigzag across."""
    lobes = [
        arc(-0.45, -0.35, 0.5, 0.5, 150, 330, 12),
        arc(0.45, -0.35, 0.5, 0.5, 210, 390, 12),
        poly(0, 0.95),
    ]
    path = poly(-0.68, 0.0, -0.4, -0.35, -0.13, 0.1, 0.13, -0.35, 0.4, 0.1, 0.68, -0.3)
    return [main(np.concatenate(lobes)), light(stroke(path, 0.17))]


@_shape
def ladder() -> list[Part]:
    """Two rails and five rungs, with gaps to see through."""
    rungs = [main(box(-0.4, y - 0.08, 0.4, y + 0.08)) for y in (-0.72, -0.36, 0.0, 0.36, 0.72)]
    return [*rungs, *(main(box(x - 0.12, -1, x + 0.12, 1)) for x in (-0.42, 0.42))]


@_shape
def snail() -> list[Part]:
    """Round shell with a dark spiral, on a light foot with a raised head."""
    turns = np.linspace(0, 4.2 * np.pi, 40)
    radius = 0.08 + 0.5 * turns / turns[-1]
    spiral = np.stack([0.12 + radius * np.cos(turns), -0.12 + radius * np.sin(turns)], axis=1)
    foot = light(poly(-1, 0.05, -0.72, -0.35, -0.5, 0.3, 1, 0.72, 0.85, 0.88, -0.75, 0.88))
    feeler = dark(line(-0.8, -0.25, -0.98, -0.72, 0.09))
    return [foot, feeler, main(disc(0.12, -0.12, 0.74)), dark(stroke(spiral, 0.12))]


@_shape
def crown() -> list[Part]:
    """Band with jewels under three spikes tipped with balls."""
    body = poly(-0.85, 0.7, -0.95, -0.45, -0.45, 0.05, 0, -0.7, 0.45, 0.05, 0.95, -0.45, 0.85, 0.7)
    tips = [light(disc(x, y, 0.14)) for x, y in ((-0.92, -0.5), (0, -0.76), (0.92, -0.5))]
    jewels = [light(turned(box(-0.11, -0.11, 0.11, 0.11), 45) + (x, 0.5)) for x in (-0.5, 0, 0.5)]
    return [main(body), dark(box(-0.85, 0.28, 0.85, 0.72)), *jewels, *tips]


@_shape
def key() -> list[Part]:
    """Ring bow, long shaft, two teeth."""
    return [
        main(disc(-0.55, 0, 0.45), disc(-0.55, 0, 0.22)),
        main(box(-0.15, -0.12, 1, 0.12)),
        main(box(0.5, 0.1, 0.66, 0.45)),
        main(box(0.8, 0.1, 1, 0.5)),
    ]


@_shape
def cactus() -> list[Part]:
    """Column with two raised arms and rows of light spines, in a dark pot."""
    arms = [
        main(stroke(poly(s * 0.1, 0.2, s * 0.62, 0.2, s * 0.66, 0.12, s * 0.66, y), 0.26))
        for s, y in ((-1, -0.35), (1, -0.6))
    ]
    spines = [
        light(line(x, y - 0.1, x, y + 0.1, 0.09))
        for x in (-0.12, 0.12)
        for y in (-0.7, -0.35, 0.0, 0.35)
    ]
    column = main(np.concatenate([arc(0, -0.7, 0.3, 0.3, 180, 360), poly(0.3, 0.6, -0.3, 0.6)]))
    return [*arms, column, *spines, dark(poly(-0.5, 0.55, 0.5, 0.55, 0.38, 1, -0.38, 1))]


@_shape
def kite() -> list[Part]:
    """Diamond in four fields, two of them dark, with a tail of light bows."""
    bows = [
        light(
            poly(x - 0.15, y - 0.1, x, y, x - 0.15, y + 0.1),
            poly(x + 0.15, y - 0.1, x, y, x + 0.15, y + 0.1),
        )
        for x, y in ((0.08, 0.6), (-0.06, 0.88))
    ]
    fields = [dark(poly(0, -1, 0, -0.25, 0.7, -0.25)), dark(poly(0, 0.42, 0, -0.25, -0.7, -0.25))]
    return [
        dark(line(0, 0.4, 0, 1, 0.06)),
        main(poly(0, -1, 0.7, -0.25, 0, 0.45, -0.7, -0.25)),
        *fields,
        *bows,
    ]


@_shape
def anchor() -> list[Part]:
    """Ring, shank, stock and two curved arms."""
    arms = main(stroke(arc(0, 0.05, 0.78, 0.78, 15, 165, 20), 0.24))
    flukes = [main(poly(s * 1.0, 0.42, s * 0.82, -0.1, s * 0.45, 0.3)) for s in (-1, 1)]
    return [
        main(disc(0, -0.75, 0.25), disc(0, -0.75, 0.11)),
        main(box(-0.13, -0.52, 0.13, 0.85)),
        dark(box(-0.5, -0.4, 0.5, -0.2)),
        arms,
        *flukes,
    ]


@_shape
def gear() -> list[Part]:
    """Toothed wheel with a see-through centre and a dark ring."""
    teeth = [main(turned(box(-0.17, -1, 0.17, -0.6), 45 * k)) for k in range(8)]
    return [
        *teeth,
        main(disc(0, 0, 0.74), disc(0, 0, 0.26)),
        dark(disc(0, 0, 0.52), disc(0, 0, 0.38)),
    ]


@_shape
def moon() -> list[Part]:
    """Crescent with dark craters."""
    crescent = np.concatenate(
        [arc(0, 0, 0.95, 0.95, 50, 310, 30), arc(0.42, 0, 0.75, 0.75, 285, 75, 24)]
    )
    return [
        main(crescent),
        *(
            dark(disc(x, y, r))
            for x, y, r in (
                (-0.6, -0.2, 0.13),
                (-0.5, 0.35, 0.15),
                (-0.2, -0.66, 0.1),
                (-0.1, 0.73, 0.09),
            )
        ),
    ]


@_shape
def flag() -> list[Part]:
    """Waving cloth with two light stripes on a dark pole."""
    x = np.linspace(-0.6, 0.95, 16)
    wave = 0.13 * np.sin(3.5 * x)
    bands = [
        np.concatenate([np.stack([x, wave + lo], 1), np.stack([x, wave + hi], 1)[::-1]])
        for lo, hi in ((-0.85, 0.25), (-0.64, -0.46), (-0.2, -0.02))
    ]
    return [main(bands[0]), light(bands[1]), light(bands[2]), dark(box(-0.76, -1, -0.58, 1))]


@_shape
def bird() -> list[Part]:
    """Round body and head in profile, dark wing, light beak, two legs."""
    legs = [dark(line(x, 0.55, x + 0.06, 0.98, 0.09)) for x in (-0.1, 0.2)]
    tail = main(poly(0.4, 0.05, 1, -0.4, 0.95, 0.2))
    wing = dark(poly(-0.3, 0.0, 0.3, -0.12, 0.72, 0.1, 0.2, 0.42, -0.15, 0.3))
    return [
        *legs,
        tail,
        main(disc(0.08, 0.15, 0.62, 0.48)),
        main(disc(-0.45, -0.4, 0.34)),
        wing,
        light(poly(-0.72, -0.52, -1, -0.3, -0.7, -0.24)),
        dark(disc(-0.48, -0.48, 0.09)),
    ]


NOUNS: tuple[str, ...] = tuple(SHAPES)
_PARTS: dict[str, list[Part]] = {noun: build() for noun, build in SHAPES.items()}


def parts_of(noun: str) -> list[Part]:
    """The painted parts of a noun, bottom first. Raises KeyError for a noun that is not in `NOUNS`."""
    return _PARTS[noun]


def noun_frequencies() -> np.ndarray:
    """Probability of each noun [26], long-tailed: ~ 1 / (rank + 3), rank from 0; the first is 9 times the last."""
    weight = 1.0 / (np.arange(len(NOUNS)) + 3.0)
    return weight / weight.sum()
