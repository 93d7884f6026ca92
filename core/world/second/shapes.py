"""The 19 things of the second world: outlines without inner drawing, one or two contours each."""

import numpy as np

from ..geometry import Points, arc, box, disc, line, poly, star, stroke


def _radial(radius: Points) -> Points:
    """A closed outline from its radius [P] at P equal steps of the angle, the first one up."""
    angle = 2 * np.pi * np.arange(len(radius)) / len(radius) - np.pi / 2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _spiral() -> Points:
    turn = np.linspace(0.6, 5 * np.pi, 60)
    path = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (turn / turn[-1] * 0.85)[:, None]
    return stroke(path, 0.22)


_WAVE = 0.7 + 0.28 * np.cos(np.linspace(0, 2 * np.pi * 6, 72, endpoint=False))
_BELL = (-0.15, -0.9, 0.15, -0.9, 0.5, -0.5, 0.6, 0.3, 0.95, 0.65, -0.95, 0.65, -0.6, 0.3,
         -0.5, -0.5)  # fmt: skip
_BOTTLE = (-0.18, -1, 0.18, -1, 0.18, -0.5, 0.45, -0.2, 0.45, 1, -0.45, 1, -0.45, -0.2,
           -0.18, -0.5)  # fmt: skip
_ARROW = (-1, -0.2, 0.2, -0.2, 0.2, -0.7, 1, 0, 0.2, 0.7, 0.2, 0.2, -1, 0.2)
_CROSS = (-0.3, -1, 0.3, -1, 0.3, -0.3, 1, -0.3, 1, 0.3, 0.3, 0.3, 0.3, 1, -0.3, 1, -0.3, 0.3,
          -1, 0.3, -1, -0.3, -0.3, -0.3)  # fmt: skip
_HAT = (-1, 0.55, -1, 0.3, -0.5, 0.3, -0.4, -0.7, 0.4, -0.7, 0.5, 0.3, 1, 0.3, 1, 0.55)
_BOLT = (0.2, -1, -0.6, 0.1, -0.05, 0.1, -0.25, 1, 0.6, -0.25, 0.05, -0.25, 0.5, -1)
_TOOTH = (-0.8, -0.8, 0.8, -0.8, 0.85, -0.1, 0.5, 1, 0.2, 0.2, -0.2, 0.2, -0.5, 1, -0.85, -0.1)
_STAIRS = (-1, 1, -1, 0.5, -0.5, 0.5, -0.5, 0, 0, 0, 0, -0.5, 0.5, -0.5, 0.5, -1, 1, -1, 1, 1)
_MAGNET = np.concatenate(
    [
        arc(0, 0, 0.95, 0.95, 180, 360),
        poly((0.95, 0.9, 0.45, 0.9)),
        arc(0, 0, 0.45, 0.45, 360, 180),
        poly((-0.45, 0.9, -0.95, 0.9)),
    ]
)

# Areas of a thing, filled one after the other; contours of one area leave holes.
OUTLINES: dict[str, tuple[tuple[Points, ...], ...]] = {
    "bell": ((poly(_BELL),), (disc(0, 0.75, 0.2),)),
    "bottle": ((poly(_BOTTLE),),),
    "ring": ((disc(0, 0, 0.95), disc(0, 0, 0.5)),),
    "arrow": ((poly(_ARROW),),),
    "cross": ((poly(_CROSS),),),
    "hat": ((poly(_HAT),),),
    "cloud": tuple((disc(x, y, r),) for x, y, r in ((-0.5, 0.2, 0.45), (0, -0.1, 0.6),
                                                     (0.55, 0.2, 0.42))),
    "bolt": ((poly(_BOLT),),),
    "leaf": ((poly((0, -1, 0.5, -0.4, 0.55, 0.2, 0, 0.8, -0.55, 0.2, -0.5, -0.4)),),
             (line(0, 0.6, 0, 1, 0.14),)),
    "hourglass": ((poly((-0.8, -1, 0.8, -1, 0.1, 0, 0.8, 1, -0.8, 1, -0.1, 0)),),),
    "ribbon": ((poly((-1, -0.6, 0, -0.12, 1, -0.6, 1, 0.6, 0, 0.12, -1, 0.6)),),),
    "fork": ((line(0, -0.2, 0, 1, 0.24),), (box(-0.6, -0.3, 0.6, -0.05),),
             *((box(x - 0.1, -1, x + 0.1, -0.2),) for x in (-0.5, 0, 0.5))),
    "spiral": ((_spiral(),),),
    "pinwheel": ((_radial(_WAVE),),),
    "tooth": ((poly(_TOOTH),),),
    "stairs": ((poly(_STAIRS),),),
    "lamp": ((poly((-0.4, -1, 0.4, -1, 0.9, 0.1, -0.9, 0.1)),), (box(-0.12, 0.1, 0.12, 0.8),),
             (box(-0.5, 0.75, 0.5, 1),)),
    "magnet": ((_MAGNET,),),
    "burst": ((star(9, 1.0, 0.62),),),
}  # fmt: skip
NOUNS: tuple[str, ...] = tuple(OUTLINES)
