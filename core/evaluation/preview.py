"""A result to look at: its masks or boxes with their images and names, without any truth.

result = open_result(Path("results/NAME"))
for item in result.items:
    pixels, labels = read(item)
    drawn = draw(item, pixels, labels, present(result.entries, labels))      # uint8 [H, W, 3]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data.image_lists import SUFFIXES
from ..data.images import read_image
from ..data.labels.mask_files import read_stored
from ..data.records import Packed, Record, open_records, read_record
from ..errors import TTDError
from ..masks.class_list import read_classes
from ..plots.boxes import COLOURS, Labelled, draw_boxes
from ..plots.label_overlay import Entry, overlay
from ..utils.files import is_there, regular_text, visible_names
from ..utils.shown import first_few
from .predictions import list_predictions, read_protocol

FOREGROUND = Entry(255, "foreground", (230, 120, 0))
SIDES = (480, 1600)  # long side of an image that is drawn: smaller ones grow, larger ones shrink
CELL_SIDE = 320  # of one in a contact sheet
LOOKED_AT = 20  # masks whose values are looked at where nothing names them

Pixels = npt.NDArray[np.uint8]
Box = tuple[Sequence[float], str]  # corners in the image's pixels, and its phrase


@dataclass(frozen=True)
class Photo:
    """An image as it was given: its name, how it is read, where its bytes are, its caption."""

    name: str
    read: Callable[[], Pixels]
    source: Path | Packed
    caption: str = ""


Images = dict[str, Photo]


@dataclass(frozen=True)
class Item:
    """One image of a result: its id, the image, its mask or boxes."""

    id: str
    photo: Photo
    mask: Path | None = None
    boxes: tuple[Box, ...] = ()

    @property
    def caption(self) -> str:
        """What was said of the image; "" where nothing was."""
        return self.photo.caption


@dataclass(frozen=True)
class Result:
    """What was found: its images by id, how many have no image, the names of its label values.

    entries: [] for boxes; named: whether the names are known.
    """

    items: list[Item]
    lacking: int
    entries: list[Entry] = field(default_factory=list)
    named: bool = True


def open_result(path: Path, images: Path | None = None) -> Result:
    """A folder of label maps or of captions' masks, or a JSONL of boxes.

    images: where the images are, a folder of ID.jpg or what the result was made of; by default what
    the result itself says. TTDError: no result, or no image of it is found.
    """
    if path.is_file():
        return _found(_boxes(path, images), path)
    if not path.is_dir():
        raise TTDError(f"{path}: no such folder; name a folder of masks, or a JSONL of boxes")
    masks = list_predictions(path)
    if not masks:
        raise TTDError(f"{path}: no masks (ID.png) in it; name a folder of results, results/NAME")
    items, lacking = _masks(path, masks, images)
    entries, named = _entries(path, masks)
    return replace(_found((items, lacking), path), entries=entries, named=named)


def _found(found: tuple[list[Item], list[str]], path: Path) -> Result:
    """The images that were found. TTDError where there is none."""
    items, lacking = found
    if not items:
        raise TTDError(
            f"{path}: the images of {first_few(lacking)} are not found; say where they are: "
            "--images FOLDER"
        )
    return Result(items, len(lacking))


def _masks(
    folder: Path, masks: dict[str, Path], images: Path | None
) -> tuple[list[Item], list[str]]:
    """Masks with their images, and the ids that have none."""
    place = images or _place(folder)
    known = _images_of(place, _is_captions(folder)) if place else {}
    items = []
    for name, mask in masks.items():
        if name in known:
            items.append(Item(name, known[name], mask))
    return items, [name for name in masks if name not in known]


def _identity(folder: Path) -> dict[str, Any]:
    """What protocol.json says that made the masks; {} where it does not."""
    identity = read_protocol(folder).get("identity")
    return identity if isinstance(identity, dict) else {}


def _place(folder: Path) -> Path | None:
    """Where protocol.json says that the images are."""
    place = _identity(folder).get("pictures")
    return Path(place) if isinstance(place, str) else None


def _is_captions(folder: Path) -> bool:
    """Whether the masks are known to be of captions."""
    return "tags" in _identity(folder)


def _images_of(place: Path, captions: bool) -> Images:
    """How images are read, and their captions, by the names of their masks.

    place: a folder of images, or images with captions in any form.
    """
    if not _openable(place):
        return {}
    files = [place / name for name in visible_names(place)] if place.is_dir() else []
    found: Images = {
        file.stem: Photo(file.name, partial(read_image, file), file)
        for file in files
        if file.suffix.lower() in SUFFIXES
    }
    if found and not captions:
        return found
    records = (item for item in open_records(place).iterate() if isinstance(item, Record))
    for record in records:
        found[record.id.replace("/", "_")] = _photo_of(record)
    return found


def _openable(place: Path) -> bool:
    """Whether images may lie there: a file, a folder, or a pattern of shards."""
    return is_there(place) or bool(set(place.name) & set("*?[{"))


def _photo_of(record: Record) -> Photo:
    """The image of a record, with its caption."""
    return Photo(record.name, partial(read_record, record), record.image, record.text)


def _entries(folder: Path, masks: dict[str, Path]) -> tuple[list[Entry], bool]:
    """Names and colours of the label values, and whether names are known.

    Of masks of captions, the foreground alone; without classes.json, numbers in the masks' own
    colours.
    """
    if classes := read_classes(folder):
        background = [one.id for one in classes if one.id == 0 and one.name == "background"]
        shown = [one for one in classes if one.id not in background]
        return [Entry(one.id, one.name, one.color) for one in shown], True
    stored = read_stored(next(iter(masks.values())))
    if _is_captions(folder):
        return [FOREGROUND], True
    if stored.colours is None:
        return _numbered(masks), False
    colours = [tuple(colour) for colour in stored.colours.tolist()]
    known = enumerate(colours[: FOREGROUND.label])  # 255 is what is not scored, in most sets
    return [Entry(k, f"label {k}", colour) for k, colour in known if k], False


def _numbered(masks: dict[str, Path]) -> list[Entry]:
    """Grey masks without names: every value but 0 that a few of them hold; 255 alone is white."""
    values: set[int] = set()
    for mask in list(masks.values())[:LOOKED_AT]:
        values |= set(np.unique(read_stored(mask).values).tolist())
    if values <= {0, 255}:
        return [FOREGROUND]
    return [
        Entry(value, f"label {value}", COLOURS[k % len(COLOURS)])
        for k, value in enumerate(sorted(values - {0, 255}))
    ]


def _boxes(path: Path, images: Path | None) -> tuple[list[Item], list[str]]:
    """The images of a JSONL of boxes with all their boxes, and the names of those not found."""
    rows = _rows(path)
    known: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        known.setdefault(row["image"], []).append(row)
    photos = _photos(known, images or _root(path))
    items = []
    for name, own in known.items():
        boxes = tuple((row["box"], row["text"]) for row in own)
        if name in photos:
            items.append(Item(own[-1]["id"], photos[name], boxes=boxes))
    return items, [name for name in known if name not in photos]


def _root(path: Path) -> Path:
    """What boxes were made of, as the file beside them says; else their own folder."""
    try:
        meta = json.loads(regular_text(path.with_name(f"{path.stem}.meta.json")))
        return Path(meta["identity"]["root"])
    except (TTDError, ValueError, KeyError, TypeError):
        return path.parent


def _photos(names: Iterable[str], place: Path) -> Images:
    """The images of boxes, by their names."""
    found: Images = {}
    for name in names:
        if is_there(file := place / name) and file.is_file():
            found[name] = Photo(name, partial(read_image, file), file)
    if found or not _openable(place):
        return found
    records = (item for item in open_records(place).iterate() if isinstance(item, Record))
    return {item.name: replace(_photo_of(item), caption="") for item in records}


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL of boxes. TTDError for another file."""
    rows = []
    for number, line in enumerate(regular_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            box = [float(value) for value in row["box"]]
            numbers = all(isinstance(value, int | float) for value in row["box"])
            sound = numbers and len(box) == 4 and np.isfinite(box).all()
            texts = [row["id"], row["image"], row["text"]]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            sound = False
        if not sound or not all(isinstance(text, str) for text in texts):
            raise TTDError(
                f'{path}:{number}: not a line of boxes ({{"id", "image", "text", "box"}}); name a '
                "result of produce_boxes_from_text.py, or a folder of masks"
            )
        rows.append(row)
    if not rows:
        raise TTDError(f"{path}: no lines in it")
    return rows


def read(item: Item) -> tuple[Pixels, Pixels | None]:
    """The image uint8 [H, W, 3] and its mask uint8 [H, W], None for boxes.

    TTDError: one cannot be read, or they differ in size.
    """
    pixels = item.photo.read()
    if item.mask is None:
        return pixels, None
    labels = read_stored(item.mask).values
    if labels.shape != pixels.shape[:2]:
        sizes = (
            f"{labels.shape[1]}x{labels.shape[0]}, its image {pixels.shape[1]}x{pixels.shape[0]}"
        )
        raise TTDError(f"{item.mask}: the mask has {sizes}; see --images")
    return pixels, labels


def present(entries: Sequence[Entry], labels: Pixels | None) -> list[Entry]:
    """The entries whose labels are in a mask [H, W]; [] for None."""
    there = set() if labels is None else set(np.unique(labels).tolist())
    return [entry for entry in entries if entry.label in there]


def draw(
    item: Item, pixels: Pixels, labels: Pixels | None, entries: Sequence[Entry], small: bool = False
) -> Pixels:
    """The image with its labels or boxes over it, uint8 [H', W', 3].

    small: of a size for a contact sheet, where letters of boxes stay readable.
    """
    if labels is not None:
        pixels, factor = _sized(pixels, SIDES)
        labels = np.asarray(
            Image.fromarray(labels).resize(pixels.shape[1::-1], Image.Resampling.NEAREST)
        )
        return overlay(pixels, labels, entries)
    pixels, factor = _sized(pixels, (CELL_SIDE, CELL_SIDE) if small else SIDES)
    boxes = [
        Labelled([value * factor for value in box], text, COLOURS[k % len(COLOURS)])
        for k, (box, text) in enumerate(item.boxes)
    ]
    return np.asarray(draw_boxes(pixels, boxes, side=1))


def _sized(pixels: Pixels, sides: tuple[int, int]) -> tuple[Pixels, float]:
    """The image with its long side between two bounds, and by how much it has grown."""
    long = max(pixels.shape[:2])
    factor = min(max(long, sides[0]), sides[1]) / long
    if factor == 1:
        return pixels, 1.0
    size = tuple(max(1, round(side * factor)) for side in pixels.shape[1::-1])
    method = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize(size, method)), factor
