"""Shapes of animals, plants and the sky: each a list of `Part`s, painted in this order."""

import numpy as np

from .geometry import Part, arc, box, dark, disc, light, line, main, poly, star, stroke, turned


def tree() -> list[Part]:
    """Three stacked tiers on a dark trunk."""
    tiers = [
        main(poly((-w, y, 0, y - 0.75, w, y))) for w, y in ((0.8, 0.6), (0.65, 0.15), (0.5, -0.25))
    ]
    cuts = [dark(line(-w, y, w, y, 0.09)) for w, y in ((0.62, 0.13), (0.48, -0.27))]
    return [dark(box(-0.16, 0.55, 0.16, 1)), *tiers, *cuts]


def fish() -> list[Part]:
    """Ellipse with a forked tail, dark upright stripes, a light eye."""
    stripes = [
        dark(line(x, -h, x, h, 0.13)) for x, h in ((-0.05, 0.48), (0.22, 0.42), (0.45, 0.26))
    ]
    tail = poly((0.45, 0, 1, -0.5, 0.85, 0, 1, 0.5))
    return [
        main(tail),
        main(disc(-0.15, 0, 0.8, 0.52)),
        *stripes,
        light(disc(-0.6, -0.12, 0.15)),
        dark(disc(-0.62, -0.12, 0.07)),
    ]


def flower() -> list[Part]:
    """Six petals round a light disc with a dark dot."""
    petals = [main(turned(disc(0, -0.6, 0.3, 0.4), 60 * k)) for k in range(6)]
    return [*petals, light(disc(0, 0, 0.33)), dark(disc(0, 0, 0.16))]


def mushroom() -> list[Part]:
    """Domed cap with light spots on a light stalk."""
    cap = np.concatenate([arc(0, 0.1, 0.95, 0.95, 180, 360), poly((0.7, 0.22, -0.7, 0.22))])
    spots = [
        light(disc(x, y, r))
        for x, y, r in ((-0.5, -0.2, 0.17), (0.02, -0.5, 0.19), (0.52, -0.18, 0.16))
    ]
    return [light(poly((-0.24, 0.15, 0.24, 0.15, 0.34, 0.95, -0.34, 0.95))), main(cap), *spots]


def five_pointed_star() -> list[Part]:
    """Five-pointed star with a smaller dark star line inside."""
    return [main(star(5, 1, 0.42)), dark(star(5, 0.6, 0.25), star(5, 0.36, 0.15))]


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


def heart() -> list[Part]:
    """Heart with a light zigzag across."""
    lobes = [
        arc(-0.45, -0.35, 0.5, 0.5, 150, 330, steps=12),
        arc(0.45, -0.35, 0.5, 0.5, 210, 390, steps=12),
        poly((0, 0.95)),
    ]
    path = poly((-0.68, 0.0, -0.4, -0.35, -0.13, 0.1, 0.13, -0.35, 0.4, 0.1, 0.68, -0.3))
    return [main(np.concatenate(lobes)), light(stroke(path, 0.17))]


def snail() -> list[Part]:
    """Round shell with a dark spiral, on a light foot with a raised head."""
    turns = np.linspace(0, 4.2 * np.pi, 40)
    radius = 0.08 + 0.5 * turns / turns[-1]
    spiral = np.stack([0.12 + radius * np.cos(turns), -0.12 + radius * np.sin(turns)], axis=1)
    foot = light(poly((-1, 0.05, -0.72, -0.35, -0.5, 0.3, 1, 0.72, 0.85, 0.88, -0.75, 0.88)))
    feeler = dark(line(-0.8, -0.25, -0.98, -0.72, 0.09))
    return [foot, feeler, main(disc(0.12, -0.12, 0.74)), dark(stroke(spiral, 0.12))]


def cactus() -> list[Part]:
    """Column with two raised arms and rows of light spines, in a dark pot."""
    arms = [
        main(stroke(poly((s * 0.1, 0.2, s * 0.62, 0.2, s * 0.66, 0.12, s * 0.66, y)), 0.26))
        for s, y in ((-1, -0.35), (1, -0.6))
    ]
    spines = [
        light(line(x, y - 0.1, x, y + 0.1, 0.09))
        for x in (-0.12, 0.12)
        for y in (-0.7, -0.35, 0.0, 0.35)
    ]
    column = main(np.concatenate([arc(0, -0.7, 0.3, 0.3, 180, 360), poly((0.3, 0.6, -0.3, 0.6))]))
    return [*arms, column, *spines, dark(poly((-0.5, 0.55, 0.5, 0.55, 0.38, 1, -0.38, 1)))]


def moon() -> list[Part]:
    """Crescent with dark craters."""
    crescent = np.concatenate(
        [arc(0, 0, 0.95, 0.95, 50, 310, steps=30), arc(0.42, 0, 0.75, 0.75, 285, 75, steps=24)]
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


def bird() -> list[Part]:
    """Round body and head in profile, dark wing, light beak, two legs."""
    legs = [dark(line(x, 0.55, x + 0.06, 0.98, 0.09)) for x in (-0.1, 0.2)]
    tail = main(poly((0.4, 0.05, 1, -0.4, 0.95, 0.2)))
    wing = dark(poly((-0.3, 0.0, 0.3, -0.12, 0.72, 0.1, 0.2, 0.42, -0.15, 0.3)))
    return [
        *legs,
        tail,
        main(disc(0.08, 0.15, 0.62, 0.48)),
        main(disc(-0.45, -0.4, 0.34)),
        wing,
        light(poly((-0.72, -0.52, -1, -0.3, -0.7, -0.24))),
        dark(disc(-0.48, -0.48, 0.09)),
    ]
