"""Muted background textures (grass, sand, night, ...).

Each is drawn once per image size; images take crops of it at random places.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Canvas: TypeAlias = npt.NDArray[np.uint8]  # [S, S, 3] RGB, S = 3 x the image's size


def _plain(
    side: int, rgb: tuple[int, int, int], rng: np.random.Generator, cell: float, depth: float
) -> Canvas:
    """A flat colour with soft blotches.

    cell: size of a blotch as a share of an image's side; depth: its grey levels up or down.
    """
    cells = max(2, round(3 / cell))
    coarse = rng.uniform(-depth, depth, (cells, cells)).astype(np.float32)
    blotch = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    values = np.array(rgb, np.float32) + blotch[..., None]
    canvas: Canvas = np.clip(values, 0, 255).astype(np.uint8)
    return canvas


def _grass(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = _plain(side, (104, 124, 84), rng, 0.2, 8)
    thick = max(1, round(unit / 96))
    places, looks = rng.uniform(0, side, (2, 1700)), rng.uniform(-1, 1, (2, 1700))
    for x, y, lean, shade in zip(*places, *looks, strict=True):
        root, tip = (int(x), int(y)), (int(x + lean * 0.03 * unit), int(y - 0.09 * unit))
        rgb = (int(96 + 26 * shade), int(122 + 30 * shade), int(74 + 22 * shade))
        cv2.line(canvas, root, tip, rgb, thick, cv2.LINE_AA)
    return canvas


def _sand(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = _plain(side, (204, 188, 150), rng, 0.3, 6)
    for x, y, tone in zip(*rng.uniform(0, side, (2, 1500)), rng.uniform(-1, 1, 1500), strict=True):
        rgb = (int(196 + 34 * tone), int(178 + 34 * tone), int(138 + 34 * tone))
        cv2.circle(canvas, (int(x), int(y)), max(1, round(0.009 * unit)), rgb, -1, cv2.LINE_AA)
    return canvas


def _night(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = _plain(side, (48, 52, 80), rng, 0.4, 6)
    radius = max(1, round(0.008 * unit))
    for x, y, tone in zip(*rng.uniform(0, side, (2, 330)), rng.uniform(110, 240, 330), strict=True):
        rgb = (int(tone), int(tone), int(tone * 0.93))
        cv2.circle(canvas, (int(x), int(y)), radius, rgb, -1, cv2.LINE_AA)
    return canvas


def _brick(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = _plain(side, (190, 182, 172), rng, 0.4, 4)
    height, width, gap = unit * 0.095, unit * 0.21, max(1.0, unit * 0.018)
    for row in range(int(side / height) + 1):
        for column in range(-1, int(side / width) + 1):
            left, top = (column + 0.5 * (row % 2)) * width, row * height
            tone = rng.uniform(-14, 14)
            rgb = (int(142 + tone), int(96 + tone), int(84 + tone))
            corner = (round(left + width - gap), round(top + height - gap))
            cv2.rectangle(canvas, (round(left), round(top)), corner, rgb, -1)
    return canvas


def _water(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = _plain(side, (122, 146, 156), rng, 0.3, 6)
    x, thick = np.arange(0, side, max(1, side // 288)), max(1, round(unit / 64))
    for y in np.arange(0, side, unit * 0.085):
        wave = y + 0.022 * unit * np.sin(x / (0.035 * unit) + rng.uniform(0, 6.3))
        path = np.stack([x, wave], 1).astype(np.int32)
        cv2.polylines(canvas, [path], False, (182, 200, 206), thick, cv2.LINE_AA)
    return canvas


def _snow(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = _plain(side, (232, 235, 240), rng, 0.5, 10)
    axes, thick = (round(0.06 * unit), max(1, round(0.012 * unit))), max(1, round(unit / 96))
    for x, y in rng.uniform(0, side, (210, 2)):
        box = (int(x), int(y)), axes, 0, 0, 180
        cv2.ellipse(canvas, *box, (196, 204, 216), thick, cv2.LINE_AA)
    return canvas


def _wood(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = _plain(side, (150, 122, 92), rng, 0.4, 6)
    plank = unit * 0.2
    for x in np.arange(0, side, plank):
        for grain in rng.uniform(0.1, 0.9, 4):
            shade = rng.uniform(-16, 10)
            at = round(x + grain * plank)
            rgb = (int(138 + shade), int(110 + shade), int(80 + shade))
            cv2.line(canvas, (at, 0), (at, side), rgb, max(1, round(unit / 80)), cv2.LINE_AA)
        joint = round(x)
        cv2.line(canvas, (joint, 0), (joint, side), (84, 66, 50), max(1, round(unit * 0.02)))
    return canvas


def _stone(side: int, unit: float, rng: np.random.Generator) -> Canvas:
    canvas = np.full((side, side, 3), (92, 92, 94), np.uint8)
    cell = unit * 0.155
    count = int(side / cell) + 1
    for row in range(count):
        for column in range(count):
            x, y = (np.array([column + 0.5 * (row % 2), row]) + rng.uniform(0.4, 0.6, 2)) * cell
            tone = int(150 + rng.uniform(-18, 18))
            axes = (round(cell * rng.uniform(0.4, 0.47)), round(cell * rng.uniform(0.38, 0.46)))
            box = (round(x), round(y)), axes, rng.uniform(0, 180), 0, 360
            cv2.ellipse(canvas, *box, (tone, tone, tone - 4), -1, cv2.LINE_AA)
    return canvas


_TEXTURES: dict[str, Callable[[int, float, np.random.Generator], Canvas]] = {
    "grass": _grass, "sand": _sand, "night": _night, "brick": _brick,
    "water": _water, "snow": _snow, "wood": _wood, "stone": _stone,
}  # fmt: skip
SCENES: tuple[str, ...] = tuple(_TEXTURES)


@lru_cache(maxsize=32)
def _canvas(scene: str, size: int) -> Canvas:
    return _TEXTURES[scene](3 * size, float(size), np.random.default_rng(SCENES.index(scene)))


def texture(scene: str, size: int, corner: tuple[float, float]) -> Canvas:
    """A crop uint8 RGB [size, size, 3] of a scene's texture.

    corner: (y, x) in [0, 1), where the crop lies. KeyError for a scene that is not in `SCENES`.
    """
    top, left = (int(c * 2 * size) for c in corner)
    return _canvas(scene, size)[top : top + size, left : left + size]
