"""One image: which things and scenes it shows and where, its pixels, and its index map."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .geometry import Part, Points, rotation
from .objects import NOUNS, noun_frequencies, parts_of
from .palette import COLOURS, unseen_pairs
from .scenes import SCENES, texture

# Share of the image that every thing covers: whether a smaller one is present could be disputed.
MIN_SHARE = 0.012
MIN_VISIBLE = 0.6  # share of a thing's own area that later things must leave visible
TRIES = 12  # placements tried before a thing is left out
SHIFT = 4  # fractional bits of OpenCV's polygon coordinates
ACCENTS = {"dark": (26, 24, 30), "light": (244, 242, 236)}
UNSEEN = frozenset(unseen_pairs())

Mask: TypeAlias = npt.NDArray[np.bool_]
Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Thing:
    """One object: centre (x, y) and half size as shares of the image's side.

    angle: degrees, clockwise; flip: mirrored left to right.
    """

    noun: str
    colour: str
    x: float
    y: float
    half: float
    angle: float
    flip: bool = False


@dataclass(frozen=True)
class Contents:
    """What an image shows; later things hide earlier ones.

    split, with two scenes: "over" (scenes[0] lies above the border) or "beside" (to its left).
    border, tilt: where the border lies and how it leans, as shares of the side.
    """

    things: tuple[Thing, ...]
    scenes: tuple[str, ...]
    split: str = ""
    border: float = 0.5
    tilt: float = 0.0


def contour(points: Points, thing: Thing, size: int) -> npt.NDArray[np.int32]:
    """Unit coordinates [P, 2] -> fixed-point pixel coordinates [P, 2]."""
    unit = points * (-1.0 if thing.flip else 1.0, 1.0)
    shares = unit @ rotation(thing.angle).T * thing.half + (thing.x, thing.y)
    pixels = shares * size - 0.5
    fixed: npt.NDArray[np.int32] = np.round(pixels * (1 << SHIFT)).astype(np.int32)
    return fixed


def contours_of(part: Part, thing: Thing, size: int) -> list[npt.NDArray[np.int32]]:
    """The contours of a part in fixed-point pixel coordinates, [P, 2] each."""
    return [contour(points, thing, size) for points in part.contours]


def silhouette(thing: Thing, size: int) -> Mask:
    """The area of a thing, body and accents, as if nothing hid it -> bool [size, size]."""
    area = np.zeros((size, size), np.uint8)
    for part in parts_of(thing.noun):
        cv2.fillPoly(area, contours_of(part, thing, size), 1, shift=SHIFT)
    return area > 0


def index_map(contents: Contents, size: int) -> Pixels:
    """What each pixel shows -> uint8 [size, size]: 0 or 1 the scenes, 2 + i the i-th thing."""
    index = scene_map(contents, size)
    for i, thing in enumerate(contents.things):
        index[silhouette(thing, size)] = 2 + i
    return index


def scene_map(contents: Contents, size: int) -> Pixels:
    """Number of the scene at each pixel, as if there were no things -> uint8 [size, size]."""
    if len(contents.scenes) < 2:
        return np.zeros((size, size), np.uint8)
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    along, across = (y, x) if contents.split == "over" else (x, y)
    return (along > contents.border + contents.tilt * (across - 0.5)).astype(np.uint8)


def _draw_thing(image: Pixels, thing: Thing, rgb: tuple[int, ...]) -> None:
    size = image.shape[0]
    outline = tuple(int(0.35 * c) for c in rgb)
    thick = max(1, round(size / 96))
    paints = {"main": rgb, **ACCENTS}
    for part in parts_of(thing.noun):
        contours = contours_of(part, thing, size)
        cv2.fillPoly(image, contours, paints[part.paint], cv2.LINE_AA, SHIFT)
        # A thin darker edge separates things of one colour, and light parts from snow.
        if part.paint != "dark":
            edge = {"thickness": thick, "lineType": cv2.LINE_AA, "shift": SHIFT}
            cv2.polylines(image, contours, True, outline, **edge)


def render(contents: Contents, rng: np.random.Generator, size: int) -> Pixels:
    """Paint `contents` -> uint8 RGB [size, size, 3]; `rng` draws texture, tones, light, noise."""
    corners = rng.random((2, 2)).tolist()
    image = texture(contents.scenes[0], size, tuple(corners[0])).copy()
    if len(contents.scenes) == 2:
        second = scene_map(contents, size) == 1
        image[second] = texture(contents.scenes[1], size, tuple(corners[1]))[second]
    for thing in contents.things:
        tone = rng.uniform(0.88, 1.1) * np.array(COLOURS[thing.colour]) + rng.uniform(-10, 10, 3)
        _draw_thing(image, thing, tuple(int(c) for c in np.clip(tone, 0, 255)))
    first, last = rng.uniform(0.86, 1.08, 2).tolist()
    light = np.linspace(first, last, size, dtype=np.float32)
    light = light[:, None, None] if rng.random() < 0.5 else light[None, :, None]
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 9))
    painted: Pixels = np.clip(image * light + noise, 0, 255).astype(np.uint8)
    return painted


def _draw_colour(noun: str, rng: np.random.Generator, unseen: bool) -> str:
    names = [c for c in COLOURS if unseen or (noun, c) not in UNSEEN]
    return names[rng.integers(len(names))]


def _place(noun: str, colour: str, rng: np.random.Generator) -> Thing:
    half = float(np.exp(rng.uniform(np.log(0.19), np.log(0.34))))
    x, y = rng.uniform(0.75 * half, 1 - 0.75 * half, 2).tolist()
    angle = float(rng.uniform(-32, 32))
    return Thing(noun, colour, x, y, half, angle=angle, flip=bool(rng.random() < 0.5))


@dataclass(frozen=True)
class Placed:
    """A thing in the image, what later things leave visible of it, and its own area in pixels."""

    thing: Thing
    visible: Mask
    own: int

    def under(self, area: Mask) -> "Placed":
        """The same with another thing, bool [S, S], in front of it."""
        return Placed(self.thing, self.visible & ~area, self.own)


def fits(area: Mask, placed: list[Placed]) -> bool:
    """Whether a new silhouette is large enough and leaves enough of every earlier thing."""
    smallest = MIN_SHARE * area.size
    if area.mean() < MIN_SHARE:
        return False
    left = [(one.own, int(one.under(area).visible.sum())) for one in placed]
    return all(pixels >= max(MIN_VISIBLE * own, smallest) for own, pixels in left)


def _draw_scenes(rng: np.random.Generator) -> dict[str, Any]:
    """One scene, or two with the border between them: keywords of `Contents`."""
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
    """Draw one image's contents: 1 to 4 things of distinct nouns, 1 or 2 scenes.

    size: of the image in pixels, which decides what is large enough; unseen: allows the pairs that
    are held out of training (`palette.unseen_pairs`).
    """
    count = 1 + rng.choice(4, p=(0.28, 0.4, 0.22, 0.1))
    nouns = rng.choice(NOUNS, count, replace=False, p=noun_frequencies())
    placed: list[Placed] = []
    for noun in nouns.tolist():
        colour = _draw_colour(noun, rng, unseen)
        for _ in range(TRIES):
            thing = _place(noun, colour, rng)
            area = silhouette(thing, size)
            if fits(area, placed):
                placed = [one.under(area) for one in placed]
                placed.append(Placed(thing, area, int(area.sum())))
                break
    return Contents(tuple(one.thing for one in placed), **_draw_scenes(rng))
