"""Shapes of things that people make: each a list of `Part`s, painted in this order."""

import numpy as np

from .geometry import Part, arc, box, dark, disc, light, line, main, poly, stroke, turned


def car() -> list[Part]:
    """Low body with a cabin, two light windows, two black wheels."""
    body = poly((-1, 0.4, -1, -0.05, -0.6, -0.12, -0.35, -0.6, 0.4, -0.6, 0.65, -0.1, 1, 0, 1, 0.4))
    windows = (
        poly((-0.45, -0.1, -0.27, -0.46, 0.0, -0.46, 0.0, -0.1)),
        poly((0.1, -0.1, 0.1, -0.46, 0.33, -0.46, 0.5, -0.1)),
    )
    wheels = [dark(disc(x, 0.42, 0.27)) for x in (-0.55, 0.55)]
    return [
        main(body),
        light(*windows),
        *wheels,
        *(light(disc(x, 0.42, 0.11)) for x in (-0.55, 0.55)),
    ]


def house() -> list[Part]:
    """Square walls, dark gabled roof, light window with a cross, dark door."""
    window = box(-0.58, 0.1, -0.05, 0.55)
    cross = (line(-0.32, 0.1, -0.32, 0.55, 0.08), line(-0.58, 0.32, -0.05, 0.32, 0.08))
    roof = dark(poly((-1, -0.15, 0, -0.95, 1, -0.15)))
    return [
        main(box(-0.78, -0.2, 0.78, 0.9)),
        roof,
        light(window),
        dark(*cross),
        dark(box(0.18, 0.2, 0.55, 0.9)),
    ]


def boat() -> list[Part]:
    """Hull with portholes, mast, one light triangular sail and one of the hull's colour."""
    hull = main(poly((-1, 0.35, 1, 0.35, 0.65, 0.9, -0.65, 0.9)))
    sails = [
        light(poly((-0.08, -0.9, -0.08, 0.2, -0.8, 0.2))),
        main(poly((0.1, -0.7, 0.1, 0.2, 0.65, 0.2))),
    ]
    return [
        dark(line(0, -0.95, 0, 0.4, 0.1)),
        hull,
        *sails,
        *(light(disc(x, 0.58, 0.09)) for x in (-0.4, 0, 0.4)),
    ]


def umbrella() -> list[Part]:
    """Half disc with a scalloped edge and dark ribs, over a hooked handle."""
    dome = np.concatenate(
        [
            arc(0, 0.05, 1, 0.95, 180, 360),
            *(arc(x, 0.05, 0.25, 0.16, 0, -180, steps=8) for x in (0.75, 0.25, -0.25, -0.75)),
        ]
    )
    ribs = [dark(line(0, -0.85, x, -0.05, 0.06)) for x in (-0.5, 0, 0.5)]
    handle = stroke(
        np.concatenate([poly((0, -0.1, 0, 0.35)), arc(0.18, 0.75, 0.18, 0.2, 180, 0, steps=10)]),
        0.11,
    )
    return [dark(handle), main(dome), *ribs]


def ball() -> list[Part]:
    """Disc with light and coloured sectors, as a beach ball has."""
    sectors = [
        light(np.concatenate([poly((0, 0)), arc(0, 0, 0.9, 0.9, a, a + 45, steps=8)]))
        for a in (0, 90, 180, 270)
    ]
    return [main(disc(0, 0, 0.9)), *sectors, dark(disc(0, 0, 0.14))]


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


def rocket() -> list[Part]:
    """Pointed hull with a porthole, dark fins and a light flame."""
    hull = poly((0, -1, 0.22, -0.7, 0.33, -0.3, 0.33, 0.5, -0.33, 0.5, -0.33, -0.3, -0.22, -0.7))
    fins = [dark(poly((s * 0.33, 0.0, s * 0.75, 0.65, s * 0.33, 0.5))) for s in (-1, 1)]
    flame = light(poly((-0.25, 0.5, 0.25, 0.5, 0.12, 0.72, 0, 1, -0.12, 0.72)))
    return [
        *fins,
        flame,
        main(hull),
        light(disc(0, -0.25, 0.19)),
        dark(line(-0.33, 0.22, 0.33, 0.22, 0.1)),
    ]


def cup() -> list[Part]:
    """Tapered mug with two light bands and a ring handle."""
    handle = main(disc(0.62, 0.05, 0.38, 0.42), disc(0.62, 0.05, 0.2, 0.24))
    bands = [
        light(poly((-w, y, w, y, w - 0.02, y + 0.2, 0.02 - w, y + 0.2)))
        for w, y in ((0.6, -0.3), (0.52, 0.25))
    ]
    return [
        handle,
        main(poly((-0.7, -0.8, 0.7, -0.8, 0.48, 0.85, -0.48, 0.85))),
        *bands,
        dark(box(-0.7, -0.85, 0.7, -0.68)),
    ]


def ladder() -> list[Part]:
    """Two rails and five rungs, with gaps to see through."""
    rungs = [main(box(-0.4, y - 0.08, 0.4, y + 0.08)) for y in (-0.72, -0.36, 0.0, 0.36, 0.72)]
    return [*rungs, *(main(box(x - 0.12, -1, x + 0.12, 1)) for x in (-0.42, 0.42))]


def crown() -> list[Part]:
    """Band with jewels under three spikes tipped with balls."""
    body = poly(
        (-0.85, 0.7, -0.95, -0.45, -0.45, 0.05, 0, -0.7, 0.45, 0.05, 0.95, -0.45, 0.85, 0.7)
    )
    tips = [light(disc(x, y, 0.14)) for x, y in ((-0.92, -0.5), (0, -0.76), (0.92, -0.5))]
    jewels = [light(turned(box(-0.11, -0.11, 0.11, 0.11), 45) + (x, 0.5)) for x in (-0.5, 0, 0.5)]
    return [main(body), dark(box(-0.85, 0.28, 0.85, 0.72)), *jewels, *tips]


def key() -> list[Part]:
    """Ring bow, long shaft, two teeth."""
    return [
        main(disc(-0.55, 0, 0.45), disc(-0.55, 0, 0.22)),
        main(box(-0.15, -0.12, 1, 0.12)),
        main(box(0.5, 0.1, 0.66, 0.45)),
        main(box(0.8, 0.1, 1, 0.5)),
    ]


def kite() -> list[Part]:
    """Diamond in four fields, two of them dark, with a tail of light bows."""
    bows = [
        light(
            poly((x - 0.15, y - 0.1, x, y, x - 0.15, y + 0.1)),
            poly((x + 0.15, y - 0.1, x, y, x + 0.15, y + 0.1)),
        )
        for x, y in ((0.08, 0.6), (-0.06, 0.88))
    ]
    fields = [
        dark(poly((0, -1, 0, -0.25, 0.7, -0.25))),
        dark(poly((0, 0.42, 0, -0.25, -0.7, -0.25))),
    ]
    return [
        dark(line(0, 0.4, 0, 1, 0.06)),
        main(poly((0, -1, 0.7, -0.25, 0, 0.45, -0.7, -0.25))),
        *fields,
        *bows,
    ]


def anchor() -> list[Part]:
    """Ring, shank, stock and two curved arms."""
    arms = main(stroke(arc(0, 0.05, 0.78, 0.78, 15, 165, steps=20), 0.24))
    flukes = [main(poly((s * 1.0, 0.42, s * 0.82, -0.1, s * 0.45, 0.3))) for s in (-1, 1)]
    return [
        main(disc(0, -0.75, 0.25), disc(0, -0.75, 0.11)),
        main(box(-0.13, -0.52, 0.13, 0.85)),
        dark(box(-0.5, -0.4, 0.5, -0.2)),
        arms,
        *flukes,
    ]


def gear() -> list[Part]:
    """Toothed wheel with a see-through centre and a dark ring."""
    teeth = [main(turned(box(-0.17, -1, 0.17, -0.6), 45 * k)) for k in range(8)]
    return [
        *teeth,
        main(disc(0, 0, 0.74), disc(0, 0, 0.26)),
        dark(disc(0, 0, 0.52), disc(0, 0, 0.38)),
    ]


def flag() -> list[Part]:
    """Waving cloth with two light stripes on a dark pole."""
    x = np.linspace(-0.6, 0.95, 16)
    wave = 0.13 * np.sin(3.5 * x)
    bands = [
        np.concatenate([np.stack([x, wave + lo], 1), np.stack([x, wave + hi], 1)[::-1]])
        for lo, hi in ((-0.85, 0.25), (-0.64, -0.46), (-0.2, -0.02))
    ]
    return [main(bands[0]), light(bands[1]), light(bands[2]), dark(box(-0.76, -1, -0.58, 1))]
