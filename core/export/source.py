"""What is exported: the images of a result with their classes, and what is marked in each.

A result of several captions an image is one image here, with what each of them marked.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from ..data.images import FORMATS
from ..data.labels.dataset_yaml import voc_palette
from ..data.labels.mask_files import read_stored
from ..data.labels.rle import bounds
from ..data.records import Packed
from ..errors import TTDError, UnreadableError
from ..evaluation.preview import Item, Photo, open_result
from ..utils.files import read_json, section
from .names import distinct, visible_label

VOID, BACKGROUND = 255, 0  # values of a label map that are no class where no class has them
OBJECT = "object"  # the class of boxes whose phrases are free text
FOREGROUND = "foreground"

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Category:
    """A class: its id from 1 on, its name, its colour, and its value in label maps, if it has."""

    id: int
    name: str
    color: tuple[int, int, int]
    value: int | None = None


@dataclass(frozen=True)
class Region:
    """What is marked: a class, a box, the label map uint8 [H, W] it is of, what was asked for."""

    category: Category
    box: Box
    labels: Labels | None = None
    text: str = ""

    @property
    def mask(self) -> Mask | None:
        """The pixels of the class, bool [H, W], where it is of a label map: made when asked for."""
        return None if self.labels is None else self.labels == self.category.value

    @property
    def area(self) -> float:
        """Pixels of the mask, else of the box."""
        mask = self.mask
        if mask is not None:
            return float(np.count_nonzero(mask))
        return round(self.box[2] * self.box[3], 2)


@dataclass(frozen=True)
class Picture:
    """An image and the items of the result that are of it; its number counts from 1."""

    number: int
    items: tuple[Item, ...]

    @property
    def photo(self) -> Photo:
        """The image itself."""
        return self.items[0].photo

    @cached_property
    def header(self) -> tuple[int, int, str]:
        """Width and height as it is seen, and its format; "" where it is stored turned.

        TTDError, UnreadableError: it cannot be read.
        """
        return read_header(self.photo)


@dataclass(frozen=True)
class Source:
    """The images and the classes of a result, and how many masks or boxes lack their image."""

    pictures: tuple[Picture, ...]
    categories: tuple[Category, ...]
    lacking: int
    masks: bool

    def regions(self, picture: Picture) -> Iterator[Region]:
        """All that is marked in an image, in the order of the result.

        TTDError: a mask of another size than the image, or with values that are no class.
        """
        for item in picture.items:
            if self.masks:
                yield from self._of_mask(item, picture)
            else:
                yield from self._of_boxes(item, picture)

    def _of_mask(self, item: Item, picture: Picture) -> Iterator[Region]:
        """A region for every class in a label map or mask."""
        labels = read_labels(item, picture)
        known = {one.value: one for one in self.categories}
        there = np.unique(labels).tolist()
        others = [value for value in there if value not in known]
        if strange := [value for value in others if value not in (BACKGROUND, VOID)]:
            raise TTDError(f"{item.mask}: label {strange[0]} is no class of classes.json")
        for value in there:
            if value in known:
                yield Region(known[value], bounds(labels == value), labels, item.caption)

    def _of_boxes(self, item: Item, picture: Picture) -> Iterator[Region]:
        """A region for every phrase, its box cut at the image's edges."""
        named = {one.name: one for one in self.categories}
        width, height, _ = picture.header
        for corners, text in item.boxes:
            x0, x1 = np.clip([corners[0], corners[2]], 0, width).tolist()
            y0, y1 = np.clip([corners[1], corners[3]], 0, height).tolist()
            wide, high = max(0.0, round(x1 - x0, 2)), max(0.0, round(y1 - y0, 2))
            name = OBJECT if list(named) == [OBJECT] else visible_label(text)
            if name not in named:
                raise TTDError(f"{item.id}: {name!r} is not among the phrases that were asked")
            yield Region(named[name], (x0, y0, wide, high), None, text)


def open_source(path: Path, images: Path | None = None) -> Source:
    """A folder of masks or a JSONL of boxes, for export; see `evaluation.preview.open_result`.

    A complete result without any mask or box is one without images. TTDError: no such result, or
    none of its images is found.
    """
    if _is_empty(path):
        return Source((), (), 0, masks=path.is_dir())
    result = open_result(path, images)
    by_name: dict[str, list[Item]] = {}
    for item in result.items:
        by_name.setdefault(item.photo.name, []).append(item)
    pictures = tuple(Picture(k, tuple(own)) for k, own in enumerate(by_name.values(), start=1))
    if path.is_dir():
        entries = [(entry.label, entry.name, entry.colour) for entry in result.entries]
        if not result.named:
            entries = _occurring(entries, result.items)
        return Source(pictures, _of_labels(entries), result.lacking, masks=True)
    return Source(pictures, _of_phrases(path), result.lacking, masks=False)


def _is_empty(path: Path) -> bool:
    """Whether a run of ours made nothing there: it says so beside an empty file or folder."""
    if path.is_dir():
        return read_json(path / "protocol.json") is not None and not any(path.glob("*.png"))
    meta = read_json(path.with_name(f"{path.stem}.meta.json"))
    return meta is not None and path.is_file() and not path.stat().st_size


def _occurring(
    entries: Sequence[tuple[int, str, tuple[int, int, int]]], items: Sequence[Item]
) -> list[tuple[int, str, tuple[int, int, int]]]:
    """Those of nameless labels that occur: a palette has colours for 256."""
    values: set[int] = set()
    for item in items:
        values |= set(np.unique(read_stored(item.mask or Path()).values).tolist())
    known = {label for label, _, _ in entries}
    more = [(value, f"label {value}", (128, 128, 128)) for value in sorted(values - known)]
    extra = [entry for entry in more if entry[0] not in (BACKGROUND, VOID)]
    return [entry for entry in entries if entry[0] in values] + extra


def _of_labels(entries: Sequence[tuple[int, str, tuple[int, int, int]]]) -> tuple[Category, ...]:
    """Classes of label maps; their ids are the label values, plus one where a class has 0.

    Foreground masks have one class of id 1.
    """
    values = [label for label, _, _ in entries]
    names = distinct((visible_label(name) for _, name, _ in entries), " ({})")
    shift = 1 if BACKGROUND in values else 0
    found = []
    for (value, _, colour), name in zip(entries, names, strict=True):
        number = 1 if values == [VOID] else value + shift
        found.append(Category(number, name, colour, value))
    return tuple(found)


def _of_phrases(path: Path) -> tuple[Category, ...]:
    """The phrases that were asked of every image; one class where each image has its own."""
    identity = section(read_json(path.with_name(f"{path.stem}.meta.json")), "identity")
    phrases = identity.get("phrases")
    names = [OBJECT]
    if isinstance(phrases, list) and all(isinstance(one, str) for one in phrases):
        names = list(dict.fromkeys(map(visible_label, phrases))) or names
    colours = voc_palette()[1:].tolist()
    numbered = zip(names, range(1, len(names) + 1), strict=True)
    return tuple(Category(k, name, tuple(colours[(k - 1) % len(colours)])) for name, k in numbered)


def read_labels(item: Item, picture: Picture) -> Labels:
    """The mask of an item, uint8 [H, W]. TTDError: of another size than its image."""
    labels = read_stored(item.mask or Path()).values
    width, height, _ = picture.header
    if labels.shape != (height, width):
        seen = f"{labels.shape[1]}x{labels.shape[0]}, its image {width}x{height}"
        raise TTDError(f"{item.mask}: the mask has {seen}; see --images")
    return labels


def read_bytes(photo: Photo) -> bytes:
    """The image's file. UnreadableError when it cannot be read now."""
    try:
        if isinstance(photo.source, Packed):
            return photo.source.read()
        return photo.source.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{photo.name}: cannot be read ({error.strerror})") from None


def read_header(photo: Photo) -> tuple[int, int, str]:
    """See `Picture.header`."""
    packed = isinstance(photo.source, Packed)
    source = io.BytesIO(read_bytes(photo)) if packed else photo.source
    Image.init()
    known = [one for one in FORMATS if one in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(source, formats=known) as image:  # type: ignore[arg-type]
                (width, height), form = image.size, str(image.format)
                turn = _orientation(image)
        except Exception as error:  # decoders raise nearly any type on damaged bytes
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise TTDError(f"{photo.name}: cannot be read as an image ({reason})") from None
    if turn in range(5, 9):
        width, height = height, width
    return width, height, form if turn == 1 else ""


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 where it says nothing or is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # third-party bytes
        return 1
