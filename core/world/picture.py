"""One image: which things and scenes it shows, where they are, its pixels and the map of what is visible where."""

from dataclasses import dataclass

import cv2
import numpy as np

from .geometry import Part
from .objects import NOUNS, noun_frequencies, parts_of
from .palette import COLOURS, unseen_pairs
from .scenes import SCENES, texture

MIN_SHARE = (
    0.012  # of the image: a thing smaller than this could be called present or absent, so none is
)
MIN_VISIBLE = 0.6  # of a thing's own area that later things may leave
TRIES = 12  # placements tried before a thing is left out
SHIFT = 4  # fractional bits of OpenCV's polygon coordinates
ACCENTS = {"dark": (26, 24, 30), "light": (244, 242, 236)}
UNSEEN = frozenset(unseen_pairs())


@dataclass(frozen=True)
class Thing:
    """One object. Lengths in shares of the image's side: centre (x, y), half size; angle in degrees, clockwise."""

    noun: str
    colour: str
    x: float
    y: float
    half: float
    angle: float
    flip: bool = False


@dataclass(frozen=True)
class Contents:
    """What an image shows. Later things hide earlier ones; with two scenes `split` is "over" or "beside".

    "over": scenes[0] lies above the border; "beside": to its left. `border` and `tilt` in shares of
    the side.
    """

    things: tuple[Thing, ...]
    scenes: tuple[str, ...]
    split: str = ""
    border: float = 0.5
    tilt: float = 0.0


def _contour(points: np.ndarray, thing: Thing, size: int) -> np.ndarray:
    """Unit coordinates [P, 2] -> fixed-point pixel coordinates [P, 2] int32."""
    angle = np.radians(thing.angle)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    unit = points * (-1.0 if thing.flip else 1.0, 1.0)
    pixels = (unit @ turn.T * thing.half + (thing.x, thing.y)) * size - 0.5
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)


def _contours(part: Part, thing: Thing, size: int) -> list[np.ndarray]:
    return [_contour(points, thing, size) for points in part.contours]


def silhouette(thing: Thing, size: int) -> np.ndarray:
    """The area of a thing, body and accents, as if alone -> bool [size, size]."""
    area = np.zeros((size, size), np.uint8)
    for part in parts_of(thing.noun):
        cv2.fillPoly(area, _contours(part, thing, size), 1, shift=SHIFT)
    return area > 0


def index_map(contents: Contents, size: int) -> np.ndarray:
    """What each pixel shows -> uint8 [size, size]: 0 or 1 the scenes, 2 + i the i-th thing."""
    x, y = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size)
    if len(contents.scenes) == 2:
        along, across = (y, x) if contents.split == "over" else (x, y)
        index = (along > contents.border + contents.tilt * (across - 0.5)).astype(np.uint8)
    else:
        index = np.zeros((size, size), np.uint8)
    for i, thing in enumerate(contents.things):
        index[silhouette(thing, size)] = 2 + i
    return index


def _draw_thing(image: np.ndarray, thing: Thing, rgb: tuple[int, ...]) -> None:
    size = image.shape[0]
    outline = tuple(int(0.35 * c) for c in rgb)
    thick = max(1, round(size / 96))
    for part in parts_of(thing.noun):
        contours = _contours(part, thing, size)
        cv2.fillPoly(
            image,
            contours,
            rgb if part.paint == "main" else ACCENTS[part.paint],
            cv2.LINE_AA,
            SHIFT,
        )
        if (
            part.paint != "dark"
        ):  # a thin darker edge separates things of one colour, and light parts from snow
            cv2.polylines(image, contours, True, outline, thick, cv2.LINE_AA, SHIFT)


def render(contents: Contents, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paint `contents` -> uint8 RGB [S, S, 3]; `index` [S, S] is its index map, `rng` gives light and noise."""
    size = index.shape[0]
    corners = rng.random((2, 2))
    image = texture(contents.scenes[0], size, tuple(corners[0])).copy()
    if len(contents.scenes) == 2:
        below = (
            index_map(
                Contents((), contents.scenes, contents.split, contents.border, contents.tilt), size
            )
            == 1
        )
        image[below] = texture(contents.scenes[1], size, tuple(corners[1]))[below]
    for thing in contents.things:
        tone = rng.uniform(0.88, 1.1) * np.array(COLOURS[thing.colour]) + rng.uniform(-10, 10, 3)
        _draw_thing(image, thing, tuple(int(c) for c in np.clip(tone, 0, 255)))
    light = np.linspace(*rng.uniform(0.86, 1.08, 2), size, dtype=np.float32)
    light = light[:, None, None] if rng.random() < 0.5 else light[None, :, None]
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 9))
    return np.clip(image * light + noise, 0, 255).astype(np.uint8)


def _draw_colour(noun: str, rng: np.random.Generator, unseen: bool) -> str:
    names = [c for c in COLOURS if unseen or (noun, c) not in UNSEEN]
    return names[rng.integers(len(names))]


def _place(noun: str, colour: str, rng: np.random.Generator) -> Thing:
    half = float(np.exp(rng.uniform(np.log(0.19), np.log(0.34))))
    x, y = rng.uniform(0.75 * half, 1 - 0.75 * half, 2)
    return Thing(
        noun,
        colour,
        float(x),
        float(y),
        half,
        float(rng.uniform(-32, 32)),
        bool(rng.random() < 0.5),
    )


def _fits(area: np.ndarray, placed: list[tuple[Thing, np.ndarray, int]]) -> bool:
    """Whether a new silhouette is large enough and leaves enough of every earlier thing."""
    if area.mean() < MIN_SHARE:
        return False
    left = [(visible & ~area).sum() for _, visible, _ in placed]
    return all(
        n >= max(MIN_VISIBLE * own, MIN_SHARE * area.size)
        for n, (_, _, own) in zip(left, placed, strict=True)
    )


def _draw_scenes(rng: np.random.Generator) -> dict:
    if rng.random() < 0.5:
        return {"scenes": (SCENES[rng.integers(len(SCENES))],)}
    two = rng.choice(len(SCENES), 2, replace=False)
    return {
        "scenes": tuple(SCENES[i] for i in two),
        "split": "over" if rng.random() < 0.5 else "beside",
        "border": float(rng.uniform(0.3, 0.7)),
        "tilt": float(rng.uniform(-0.25, 0.25)),
    }


def draw_contents(rng: np.random.Generator, size: int, *, unseen: bool) -> Contents:
    """Draw one image's contents: 1-4 things of distinct nouns, 1 or 2 scenes; `unseen` allows the held-out pairs."""
    count = 1 + rng.choice(4, p=(0.28, 0.4, 0.22, 0.1))
    nouns = rng.choice(NOUNS, count, replace=False, p=noun_frequencies())
    placed: list[tuple[Thing, np.ndarray, int]] = []
    for noun in nouns:
        colour = _draw_colour(str(noun), rng, unseen)
        for _ in range(TRIES):
            thing = _place(str(noun), colour, rng)
            area = silhouette(thing, size)
            if _fits(area, placed):
                placed = [(t, visible & ~area, own) for t, visible, own in placed]
                placed.append((thing, area, int(area.sum())))
                break
    return Contents(tuple(t for t, _, _ in placed), **_draw_scenes(rng))
