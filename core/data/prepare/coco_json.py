"""COCO's instances json, read into checked values: what is malformed is one line with its id."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from ...errors import TTDError
from ...utils.files import bad_id, regular_text

Polygons: TypeAlias = list[list[float]]
RunLengths: TypeAlias = dict[str, Any]
LARGEST = 100_000_000  # pixels that an image may have


@dataclass(frozen=True)
class Image:
    """An image of the json: its file relative to the images' folder, and its size in pixels."""

    id: int | str
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class Annotation:
    """An object: its category 1-90, and its mask as polygons or run lengths."""

    id: int
    category: int
    shape: Polygons | RunLengths


@dataclass(frozen=True)
class Instances:
    """Images sorted by file name, the objects of each image id, and what belongs to no image."""

    images: list[Image]
    objects: dict[int | str, list[Annotation]]
    orphans: int


def parse_instances(path: Path, categories: dict[int, str]) -> Instances:
    """Read and check a whole instances json; `categories` are COCO's names by id.

    Ids may be whole numbers or their digits as text. TTDError naming file and entry for anything
    malformed, for other categories, and for images that occur twice.
    """
    content = _load(path)
    try:
        images = [_image(entry) for entry in _entries(content, "images")]
        known = _distinct(images)
        _check_categories(_entries(content, "categories"), categories)
        objects: dict[int | str, list[Annotation]] = defaultdict(list)
        orphans = 0
        for number, entry in enumerate(_entries(content, "annotations")):
            annotation, owner = _annotation(entry, number, categories)
            if owner not in known:
                orphans += 1
                continue
            objects[owner].append(annotation)
    except TTDError as error:
        raise TTDError(f"{path}: {error}") from None
    return Instances(sorted(images, key=lambda image: image.file_name), objects, orphans)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(regular_text(path))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise TTDError(f"{path}: no instances json of COCO ({reason})") from None
    if not isinstance(content, dict):
        raise TTDError(f"{path}: no instances json of COCO (not an object)")
    return content


def _entries(content: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise TTDError(f"no instances json of COCO (no list of {key})")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise TTDError(f"{key} number {number}: not an object")
        yield entry


def _image(entry: dict[str, Any]) -> Image:
    """An entry of `images`. TTDError."""
    key = _key(entry.get("id"))
    what = f"image {_short(entry.get('id'))}"
    if key is None:
        raise TTDError(f"{what}: id is neither a number nor text")
    name = entry.get("file_name")
    if not isinstance(name, str) or bad_id(name):
        raise TTDError(f"{what}: file_name {_short(name)} is no file name")
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise TTDError(f"{what}: file_name {_short(name)} leaves the folder of the images")
    height, width = (_whole(entry.get(side)) for side in ("height", "width"))
    if height is None or width is None or not 0 < height * width <= LARGEST:
        size = f"{_short(entry.get('height'))} x {_short(entry.get('width'))}"
        raise TTDError(f"{what}: height x width {size} is no size of an image")
    return Image(key, name, height, width)


def _annotation(
    entry: dict[str, Any], number: int, categories: dict[int, str]
) -> tuple[Annotation, int | str]:
    """An entry of `annotations` and the id of its image. TTDError."""
    what = f"annotation {_short(entry['id'])}" if "id" in entry else f"annotations[{number}]"
    own, owner = _whole(entry.get("id")), _key(entry.get("image_id"))
    if own is None:
        raise TTDError(f"{what}: id is missing or no whole number")
    if owner is None:
        raise TTDError(f"{what}: image_id {_short(entry.get('image_id'))} is no id")
    category = _whole(entry.get("category_id"))
    if category not in categories:
        shown = _short(entry.get("category_id"))
        raise TTDError(f"{what}: category_id {shown} is none of COCO's 80 objects")
    return Annotation(own, category, _shape(entry.get("segmentation"), what)), owner


def _shape(value: Any, what: str) -> Polygons | RunLengths:
    """A segmentation: polygons, or {"size", "counts"}. TTDError."""
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        if not isinstance(size, list) or [_whole(side) is None for side in size] != [False] * 2:
            raise TTDError(f"{what}: segmentation with size {_short(size)}; wanted [height, width]")
        if not isinstance(counts, list | str):
            raise TTDError(f"{what}: segmentation without counts")
        return value
    if not isinstance(value, list):
        raise TTDError(f"{what}: segmentation is {_short(value)}; wanted polygons or run lengths")
    for polygon in value:
        _check_polygon(polygon, what)
    return value


def _check_polygon(polygon: Any, what: str) -> None:
    """TTDError unless it is [x0, y0, x1, y1, ...] of finite numbers."""
    if not isinstance(polygon, list):
        raise TTDError(f"{what}: segmentation must be a list of polygons, each a list of numbers")
    if not all(type(value) in (int, float) for value in polygon):
        raise TTDError(f"{what}: a polygon holds something else than numbers")
    if len(polygon) % 2:
        raise TTDError(f"{what}: a polygon of {len(polygon)} numbers, which are no x y pairs")
    if 0 < len(polygon) < 6:
        points = len(polygon) // 2
        raise TTDError(f"{what}: a polygon of {points} points, which bounds nothing (or is a box)")
    if not all(abs(value) < 1e9 for value in polygon):  # False for NaN too
        raise TTDError(f"{what}: a polygon with NaN, Infinity or a number beyond any image")


def _distinct(images: Sequence[Image]) -> set[int | str]:
    """Ids of the images. TTDError for ids or file names that occur twice."""
    for values in ([image.id for image in images], [image.file_name for image in images]):
        seen: set[Any] = set()
        for value in values:
            if value in seen:
                raise TTDError(f"image {_short(value)} is listed twice")
            seen.add(value)
    return {image.id for image in images}


def _check_categories(entries: Iterator[dict[str, Any]], wanted: dict[int, str]) -> None:
    """TTDError unless every category is one of COCO's 80."""
    for entry in entries:
        number, name = _whole(entry.get("id")), entry.get("name")
        if number not in wanted or wanted[number] != name:
            raise TTDError(
                f"category {_short(entry.get('id'))} {_short(name)} is none of COCO's 80 objects; "
                "describe your own set in a YAML instead"
            )


def _whole(value: Any) -> int | None:
    """A whole number, also from 3.0 or "3"; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _key(value: Any) -> int | str | None:
    """An id by which images are found: "7" and 7 are one."""
    number = _whole(value)
    if number is not None:
        return number
    return value if isinstance(value, str) and value else None


def _short(value: Any) -> str:
    text = value if isinstance(value, int | float) else json.dumps(value)[:60]
    return str(text)[:60]
