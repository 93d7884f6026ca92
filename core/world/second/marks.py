"""What things wear in the third look: all but the spiral a pattern of their own, in two tones."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..geometry import rotation
from ..picture import Thing

Floats: TypeAlias = npt.NDArray[np.float64]
Area: TypeAlias = npt.NDArray[np.bool_]


def _wave(along: Floats, period: float) -> Floats:
    """[...] -> [...] in [-1, 1], at its highest where `along` is 0."""
    wave: Floats = np.cos(2 * np.pi * along / period)
    return wave


def _wedges(u: Floats, v: Floats, count: int) -> Area:
    inside: Area = np.cos(count * np.arctan2(v, u)) > 0
    return inside


# Of a thing's own coordinates (u to the right, v down, its outline within [-1, 1]): the other tone.
MARKS: dict[str, Callable[[Floats, Floats], Area]] = {
    "bell": lambda u, v: _wave(v, 0.6) > 0,
    "bottle": lambda u, v: _wave(u, 0.5) > 0,
    "ring": lambda u, v: _wedges(u, v, 8),
    "arrow": lambda u, v: _wave(u, 0.8) * _wave(v, 0.8) > 0,
    "cross": lambda u, v: _wave(u, 0.6) + _wave(v, 0.6) > 0.9,
    "hat": lambda u, v: abs(v - 0.1) < 0.22,
    "cloud": lambda u, v: _wave(u + v, 0.55) > 0.2,
    "bolt": lambda u, v: _wave(v + abs((2 * u) % 1 - 0.5), 0.6) > 0,
    "leaf": lambda u, v: (abs(u) < 0.1) | (_wave(v + abs(u), 0.45) > 0.6),
    "hourglass": lambda u, v: _wave(np.hypot(u, v), 0.55) > 0,
    "ribbon": lambda u, v: np.hypot(abs(u) - 0.62, v) < 0.28,
    "fork": lambda u, v: np.maximum(_wave(u, 0.5), _wave(v, 0.5)) > 0.75,
    "spiral": lambda u, v: np.zeros(u.shape, bool),
    "pinwheel": lambda u, v: _wedges(u, v, 3),
    "tooth": lambda u, v: _wave(u, 0.36) + _wave(v, 0.36) > 1.1,
    "stairs": lambda u, v: (
        (_wave(v, 0.5) > 0.8) | (_wave(u + 0.25 * (np.floor(2 * v) % 2), 0.5) > 0.85)
    ),
    "lamp": lambda u, v: v < -0.35,
    "magnet": lambda u, v: v > 0.35,
    "burst": lambda u, v: np.hypot(u, v) < 0.45,
}


def mark(thing: Thing, size: int) -> Area:
    """Where a thing wears its other tone -> bool [size, size], beyond its outline, too."""
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres - thing.x, centres - thing.y)
    turn = rotation(-thing.angle) / thing.half
    u, v = (row[0] * x + row[1] * y for row in turn)
    return MARKS[thing.noun](u, v)
