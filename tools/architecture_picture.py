"""The picture of docs/architecture.md: the rooms of `core/` and the way of an image through them.

Rooms, what they are and what they use come from the source (`architecture.py`); where a box stands
and which way the data takes is stated here.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from canvas import Canvas, Colour, Point
from cli import ROOT  # noqa: F401  (makes `core` importable)
from PIL import Image, PngImagePlugin

from core.errors import TTDError

# Room -> (row from the top, column). Rows keep the order of the floors; the ground is one row.
PLACES = {
    "app": (0, 1),
    "labelling": (0, 2),
    "ttd": (1, 0),
    "tcl": (1, 1),
    "grounding": (1, 2),
    "tiny_clip": (1, 3),
    "training": (2, 0),
    "export": (2, 1),
    "report": (2, 2),
    "evaluation": (3, 1),
    "predictor": (3, 2),
    "masks": (4, 1),
    "tags": (5, 0),
    "maps": (6, 1),
    "text": (6, 2),
    "backbones": (7, 1),
    "world": (7, 3),
    "data": (8, 0),
    "refine": (8, 2),
    "plots": (8, 3),
    "metrics": (9, 0),
    "utils": (9, 1),
    "errors": (9, 2),
}
ROWS = 10
WIDTH, BOX_WIDTH, BOX_HEIGHT, GAP, ROW_GAP = 1840, 364, 150, 84, 64
LEFT, TOP = 64, 76
LETTERS = 31  # in a line of a box

INK, SOFT = (33, 37, 41), (110, 117, 125)
IMAGE, CAPTION, TRAINING = (214, 93, 14), (38, 98, 178), (24, 128, 92)
TINTS: tuple[tuple[Colour, Colour], ...] = (  # fill and outline by row
    ((240, 235, 248), (168, 149, 205)),
    ((228, 243, 236), (120, 184, 155)),
    ((228, 243, 236), (120, 184, 155)),
    ((240, 235, 248), (168, 149, 205)),
    ((253, 239, 226), (232, 168, 112)),
    ((253, 239, 226), (232, 168, 112)),
    ((229, 239, 251), (136, 174, 222)),
    ((229, 239, 251), (136, 174, 222)),
    ((243, 244, 238), (178, 182, 152)),
    ((241, 243, 245), (173, 181, 189)),
)


@dataclass(frozen=True)
class Way:
    """An arrow through `points`, and what travels along it, written at `at`."""

    points: tuple[Point, ...]
    colour: Colour
    label: str
    at: Point
    anchor: str = "lm"


def draw(
    path: Path,
    floors: Sequence[Sequence[str]],
    summaries: Mapping[str, str],
    uses: Mapping[str, Sequence[str]],
    facts: str,
) -> None:
    """Write the picture as PNG, `facts` inside it for `stored_facts`.

    Args:
        floors: names of rooms from the ground up; their order is checked against `PLACES`.
        summaries: room -> what it is, for the rooms that exist.
        uses: room -> the rooms it names as used.

    TTDError: a room without a place, or one that stands below a room of a lower floor.
    """
    check_places(floors, summaries)
    canvas = Canvas(WIDTH, TOP + ROWS * (BOX_HEIGHT + ROW_GAP) - 20)
    for way in ways(summaries):
        canvas.arrow(way.points, way.colour)
    for room, words in summaries.items():
        if room in PLACES:
            draw_room(canvas, room, words, uses.get(room, ()))
    for way in ways(summaries):
        canvas.write(way.at, way.label, 22, way.colour, way.anchor, halo=5)
    draw_legend(canvas)
    note = PngImagePlugin.PngInfo()
    note.add_itxt("rooms", facts)
    canvas.finished().save(path, pnginfo=note, optimize=True)


def stored_facts(path: Path) -> str:
    """What the picture says it shows; "" where there is none."""
    try:
        with Image.open(path) as picture:
            return str(getattr(picture, "text", {}).get("rooms", ""))
    except OSError:
        return ""


def check_places(floors: Sequence[Sequence[str]], rooms: Mapping[str, str]) -> None:
    """TTDError unless every room has a place of its own and no row contradicts the floors."""
    for room in rooms:
        if room not in PLACES:
            raise TTDError(f"{room}: no place in the picture; give it one in {Path(__file__).name}")
    below = ROWS
    for floor in floors:
        rows = [PLACES[room][0] for room in floor if room in PLACES]
        if rows and max(rows) > below:
            raise TTDError(f"{Path(__file__).name}: PLACES puts a higher floor below a lower one")
        below = min(rows, default=below)


def draw_room(canvas: Canvas, room: str, words: str, uses: Sequence[str]) -> None:
    """One box: name, what it is in two lines at most, what it uses."""
    left, top, right, bottom = box(room)
    fill, outline = TINTS[PLACES[room][0]]
    canvas.rounded((left, top, right, bottom), fill, outline)
    canvas.write((left + 20, top + 30), room, 31, INK, "lm", halo=1 / 3, halo_colour=INK)
    for number, line in enumerate(textwrap.wrap(clause(words), LETTERS)[:2]):
        canvas.write((left + 20, top + 66 + 27 * number), line, 23, INK, "lm")
    if uses:
        canvas.write((left + 20, bottom - 20), f"uses {', '.join(uses)}", 20, SOFT, "lm")


def clause(words: str) -> str:
    """The first clause of a docstring that says more than a name: up to a stop or colon."""
    plain = words.replace("`", "")
    for part in re.split(r"[.:;](?:\s+|$)", plain):
        if len(part) > 12:
            return part[0].upper() + part[1:]
    return plain


def draw_legend(canvas: Canvas) -> None:
    """What the colours mean."""
    x = float(LEFT)
    for text, colour in (
        ("an image", IMAGE),
        ("a caption", CAPTION),
        ("a training step", TRAINING),
    ):
        canvas.arrow(((x, 34), (x + 62, 34)), colour)
        canvas.write((x + 76, 34), text, 24, colour, "lm")
        x += 110 + canvas.width_of(text, 24)
    about = "a room uses rooms below it only; all may use utils and errors"
    canvas.write((WIDTH - LEFT, 34), about, 22, SOFT, "rm")


def box(room: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a room's box in pixels."""
    row, column = PLACES[room]
    left = LEFT + column * (BOX_WIDTH + GAP)
    top = TOP + row * (BOX_HEIGHT + ROW_GAP)
    return left, top, left + BOX_WIDTH, top + BOX_HEIGHT


def ways(rooms: Mapping[str, str]) -> Iterator[Way]:
    """The arrows: what travels from room to room."""
    yield from image_ways()
    yield from answer_ways()
    yield from edge_ways()
    yield from caption_ways()
    if "ttd" in rooms:
        yield from training_ways()


def image_ways() -> Iterator[Way]:
    """From a file to pixels, views, embeddings and maps."""
    data, maps, sight = map(box, ("data", "maps", "backbones"))
    x, level = data[0] + 150, _middle(maps)
    points = ((x, data[1]), (x, level), (maps[0], level))
    yield Way(points, IMAGE, "image, uint8 [H, W, 3]", (x + 16, data[1] - 46))
    x, between = maps[0] + 60, _between(maps, sight)
    yield Way(((x, maps[3]), (x, sight[1])), IMAGE, "views", (x + 12, between))
    x += 120
    yield Way(((x, sight[1]), (x, maps[3])), IMAGE, "pixels [B, D, h, w]", (x + 12, between))


def answer_ways() -> Iterator[Way]:
    """From maps to tags, masks and their scores."""
    maps, tags, masks, scores = map(box, ("maps", "tags", "masks", "evaluation"))
    x, level = maps[0] + 60, _middle(tags)
    points = ((x, maps[1]), (x, level), (tags[2], level))
    yield Way(points, IMAGE, "maps [B, K, h, w]", (x + 14, level + 58))
    x = maps[0] + 270
    yield Way(((x, maps[1]), (x, masks[3])), IMAGE, "soft masks [K, H, W]", (x + 14, level))
    x, level = tags[0] + 250, _middle(masks)
    yield Way(((x, tags[1]), (x, level), (masks[0], level)), IMAGE, "words", (x + 14, level + 60))
    x, level = tags[0] + 110, _middle(scores)
    points = ((x, tags[1]), (x, level), (scores[0], level))
    yield Way(points, IMAGE, "tags, one line a caption", (x + 14, scores[3] + 30))
    x, between = masks[0] + 186, _between(scores, masks)
    yield Way(((x, masks[1]), (x, scores[3])), IMAGE, "label map [H, W]", (x + 14, between))


def edge_ways() -> Iterator[Way]:
    """PAMR and CRF, which draw masks to the edges."""
    edges, masks = box("refine"), box("masks")
    x, low, high = edges[2] + GAP / 2, _middle(edges), _middle(masks)
    points = ((edges[2], low), (x, low), (x, high), (masks[2], high))
    yield Way(points, IMAGE, "the image's edges", (x - 14, high - 24), "rm")


def caption_ways() -> Iterator[Way]:
    """From words to tokens, to embeddings, to the maps."""
    maps, text, sight = map(box, ("maps", "text", "backbones"))
    level, right = _middle(text), text[2]
    points = ((right + 300, level), (right, level))
    yield Way(points, CAPTION, "caption, class names", (right + 62, level - 24))
    x, low = text[0] + 186, _middle(sight)
    corner = ((x, text[3]), (x, low), (sight[2], low))
    yield Way(corner, CAPTION, "tokens [K, L]", (x + 14, low))
    middle = (maps[2] + text[0]) / 2
    yield Way(((text[0], level), (maps[2], level)), CAPTION, "[K, D]", (middle, level - 24), "mm")


def training_ways() -> Iterator[Way]:
    """Pairs to the trainer, a batch to the system, its loss back."""
    data, trainer, system = map(box, ("data", "training", "ttd"))
    x, low, high = LEFT / 2, _middle(data), _middle(trainer)
    points = ((data[0], low), (x, low), (x, high), (trainer[0], high))
    label = "pairs of image and caption"
    yield Way(points, TRAINING, label, (x + 14, trainer[3] + 30))
    x, between = trainer[0] + 60, _between(system, trainer)
    yield Way(((x, trainer[1]), (x, system[3])), TRAINING, "batch", (x + 12, between))
    x += 130
    yield Way(((x, system[3]), (x, trainer[1])), TRAINING, "loss", (x + 12, between))


def _middle(of: tuple[float, float, float, float]) -> float:
    return (of[1] + of[3]) / 2


def _between(upper: tuple[float, ...], lower: tuple[float, ...]) -> float:
    return (upper[3] + lower[1]) / 2
