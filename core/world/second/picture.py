"""One image of the second world: clutter behind patterned things, seen through a poor camera."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ..picture import SHIFT, Contents, Mask, Pixels, Placed, Thing, contour, fits, scene_map
from .marks import mark
from .shapes import NOUNS, OUTLINES

TRIES = 10  # placements tried before a thing is left out
LEVELS = 5  # octaves of the backgrounds' noise

Floats: TypeAlias = npt.NDArray[np.float32]

COLOURS: dict[str, tuple[int, int, int]] = {
    "crimson": (176, 24, 52), "navy": (28, 38, 110), "golden": (222, 176, 40),
    "teal": (18, 128, 128), "violet": (140, 92, 214), "lime": (160, 216, 52),
    "white": (240, 240, 236), "black": (22, 22, 26), "salmon": (242, 140, 118),
}  # fmt: skip
# Two colours of the noise, and how much longer than high its blotches are.
SCENES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], float]] = {
    "forest": ((30, 52, 30), (86, 104, 62), 0.25),
    "desert": ((186, 150, 104), (220, 196, 152), 4.0),
    "ocean": ((40, 78, 104), (112, 152, 170), 6.0),
    "sky": ((140, 170, 206), (226, 230, 236), 1.5),
    "lava": ((58, 26, 20), (170, 74, 34), 1.0),
    "fabric": ((120, 84, 96), (176, 142, 146), 0.1),
    "concrete": ((104, 104, 106), (158, 156, 152), 1.0),
}


def outline(thing: Thing, size: int) -> Mask:
    """The area of a thing as if nothing hid it -> bool [size, size]."""
    area = np.zeros((size, size), np.uint8)
    for part in OUTLINES[thing.noun]:
        cv2.fillPoly(area, [contour(points, thing, size) for points in part], 1, shift=SHIFT)
    return area > 0


def index_map(contents: Contents, size: int) -> Pixels:
    """What each pixel shows -> uint8 [size, size]: 0 or 1 the scenes, 2 + i the i-th thing."""
    index = scene_map(contents, size)
    for i, thing in enumerate(contents.things):
        index[outline(thing, size)] = 2 + i
    return index


@lru_cache(maxsize=16)
def _noise(kind: int, stretch: float, size: int) -> Floats:
    """Noise of several octaves in [0, 1] -> [3 size, 3 size]."""
    rng, side = np.random.default_rng(kind), 3 * size
    total = np.zeros((side, side), np.float32)
    for level in range(1, LEVELS + 1):
        cells = np.maximum(2, np.array([3 * 2**level * min(stretch, 4), 3 * 2**level / stretch]))
        rows, columns = (int(min(cell, side)) for cell in cells)
        grid = rng.random((rows, columns), dtype=np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * 0.65**level
    low, high = np.quantile(total, (0.02, 0.98))
    scaled: Floats = np.clip((total - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


def background(scene: str, size: int, corner: tuple[float, float]) -> Floats:
    """A crop float32 RGB [size, size, 3] of a scene. corner: (y, x) in [0, 1), where it lies."""
    dark, bright, stretch = SCENES[scene]
    top, left = (int(c * 2 * size) for c in corner)
    kind = list(SCENES).index(scene)
    share = _noise(kind, stretch, size)[top : top + size, left : left + size, None]
    ends = np.array([dark, bright], np.float32)
    painted: Floats = ends[0] + share * (ends[1] - ends[0])
    return painted


def _pattern(rng: np.random.Generator, size: int) -> Floats:
    """Stripes, checks, dots or blotches -> float32 [size, size] about 1."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    angle, step = rng.uniform(0, np.pi), rng.uniform(0.03, 0.09)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves = np.sin(2 * np.pi * u / step), np.sin(2 * np.pi * v / step)
    kinds: tuple[Callable[[], Floats], ...] = (
        lambda: waves[0],
        lambda: np.sign(waves[0] * waves[1]),
        lambda: (waves[0] + waves[1] > 1).astype(np.float32),
        lambda: 2 * _noise(99, 1.0, size)[:size, :size] - 1,
    )
    return 1 + rng.uniform(0.05, 0.3) * kinds[rng.integers(len(kinds))]()


def _add_clutter(image: Floats, rng: np.random.Generator) -> None:
    """Shards and sticks of muted colours that no caption names, painted into the background."""
    size = len(image)
    for _ in range(rng.integers(4, 13)):
        middle, reach = rng.uniform(0, size, 2), rng.uniform(0.03, 0.16) * size
        corners = (middle + rng.uniform(-reach, reach, (rng.integers(3, 6), 2))).astype(np.int32)
        tone = image[int(middle[1]), int(middle[0])] * 0.5 + rng.uniform(30, 190) * 0.5
        tone = np.clip(tone + rng.uniform(-18, 18, 3), 0, 255)
        cv2.fillPoly(image, [corners], tone.tolist(), cv2.LINE_AA)


def _camera(image: Floats, rng: np.random.Generator) -> Pixels:
    """Blur, colour cast, vignette and noise, as of a cheap camera."""
    size = len(image)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.1) * size / 96)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    vignette = 1 - rng.uniform(0, 0.7) * (x * x + y * y)
    cast = rng.uniform(0.82, 1.15) * rng.uniform(0.93, 1.07, 3)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(4, 13)
    seen: Pixels = np.clip(image * vignette[..., None] * cast + noise, 0, 255).astype(np.uint8)
    return seen


def render(contents: Contents, rng: np.random.Generator, size: int, marked: bool = False) -> Pixels:
    """Paint `contents` -> uint8 RGB [size, size, 3]; `rng` draws all that captions do not name.

    marked: every thing wears the pattern of its noun, not any.
    """
    corners = rng.random((2, 2)).tolist()
    image = background(contents.scenes[0], size, tuple(corners[0])).copy()
    if len(contents.scenes) == 2:
        second = scene_map(contents, size) == 1
        image[second] = background(contents.scenes[1], size, tuple(corners[1]))[second]
    _add_clutter(image, rng)
    for thing in contents.things:
        tone = np.array(COLOURS[thing.colour], np.float32) * rng.uniform(0.85, 1.12)
        if marked:
            fill = np.where(mark(thing, size)[..., None], _other(tone), tone)
        else:
            fill = tone * _pattern(rng, size)[..., None]
        area = outline(thing, size)
        image[area] = fill[area]
    return _camera(np.clip(image, 0, 255).astype(np.float32), rng)


def _other(tone: Floats) -> Floats:
    """The second tone of a thing [3]: darker, or lighter where it is dark."""
    return tone * 0.3 if tone.mean() > 90 else tone + 110


def draw_contents(rng: np.random.Generator, size: int) -> Contents:
    """Draw one image's contents: 1 to 5 things of distinct nouns, 1 or 2 scenes."""
    count = 1 + rng.choice(5, p=(0.2, 0.3, 0.25, 0.15, 0.1))
    placed: list[Placed] = []
    for i in rng.choice(len(NOUNS), count, replace=False).tolist():
        colour = list(COLOURS)[rng.integers(len(COLOURS))]
        for _ in range(TRIES):
            half = float(rng.uniform(0.15, 0.33))
            x, y = rng.uniform(0.7 * half, 1 - 0.7 * half, 2).tolist()
            thing = Thing(NOUNS[i], colour, x, y, half, float(rng.uniform(-40, 40)))
            area = outline(thing, size)
            if fits(area, placed):
                placed = [
                    *(one.under(area) for one in placed),
                    Placed(thing, area, int(area.sum())),
                ]
                break
    things = tuple(one.thing for one in placed)
    scenes = [list(SCENES)[i] for i in rng.choice(len(SCENES), 2, replace=False)]
    if rng.random() < 0.6:
        return Contents(things, (scenes[0],))
    border, tilt = rng.uniform(0.35, 0.65), rng.uniform(-0.2, 0.2)
    return Contents(things, tuple(scenes), "over", float(border), float(tilt))
