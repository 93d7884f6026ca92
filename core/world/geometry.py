"""Polygons in unit coordinates: the square [-1, 1] x [-1, 1], x to the right, y down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Points: TypeAlias = npt.NDArray[np.float64]  # [P, 2], (x, y)


@dataclass(frozen=True)
class Part:
    """One painted area: `contours` filled by the even-odd rule.

    A second contour inside the first is a hole. paint: "main" (the object's colour), "dark" or
    "light"; accents outside the body belong to the object, too.
    """

    paint: str
    contours: tuple[Points, ...]


def main(*contours: Points) -> Part:
    """A part in the object's own colour."""
    return Part("main", contours)


def dark(*contours: Points) -> Part:
    """A nearly black part."""
    return Part("dark", contours)


def light(*contours: Points) -> Part:
    """A nearly white part."""
    return Part("light", contours)


def poly(xy: Sequence[float]) -> Points:
    """Polygon from (x1, y1, x2, y2, ...) -> [P, 2]."""
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """Axis-aligned rectangle -> [4, 2]."""
    return poly((x0, y0, x1, y0, x1, y1, x0, y1))


def arc(
    x: float, y: float, rx: float, ry: float, start: float, stop: float, steps: int = 24
) -> Points:
    """Points on an ellipse between two angles in degrees (0 = right, 90 = down) -> [steps, 2]."""
    angle = np.radians(np.linspace(start, stop, steps))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def disc(x: float, y: float, rx: float, ry: float | None = None) -> Points:
    """Ellipse of radii `rx` and `ry`, a circle where `ry` is None -> [24, 2]."""
    return arc(x, y, rx, rx if ry is None else ry, 0, 345)


def star(points: int, outer: float, inner: float, x: float = 0.0, y: float = 0.0) -> Points:
    """Star with `points` tips, the first one up -> [2 * points, 2]."""
    angle = np.pi * np.arange(2 * points) / points - np.pi / 2
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def stroke(path: Points, width: float) -> Points:
    """A line of constant width along `path` [P, 2], as one polygon [2P, 2]."""
    step = np.gradient(path, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1)
    normal *= width / 2 / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return np.concatenate([path + normal, (path - normal)[::-1]])


def line(x0: float, y0: float, x1: float, y1: float, width: float) -> Points:
    """A straight bar between two points -> [4, 2]."""
    return stroke(poly((x0, y0, x1, y1)), width)


def turned(points: Points, degrees: float) -> Points:
    """`points` [P, 2] rotated about the origin, clockwise on the screen."""
    rotated: Points = points @ rotation(degrees).T
    return rotated


def rotation(degrees: float) -> Points:
    """The matrix [2, 2] that turns column vectors (x, y) clockwise on the screen."""
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
