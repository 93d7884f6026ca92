"""COCO's annotations as scenes: objects from instances, captions from captions.

For users without the published detectors: boxes and classes are those of people then, so that the
result is no unsupervised one. It serves to start, and to see what a perfect detector would give.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import TTDError
from ...utils.files import expanded
from ...utils.json_lines import load_json
from .scenes import Scene, parse_scene


def coco_scenes(instances: str | Path, captions: str | Path | None = None) -> Iterator[Scene]:
    """A scene per image of an instances json, sorted by file name.

    Crowds (`iscrowd`) are left out. captions: a captions json of the same images. Errors: TTDError
    naming the file and what is malformed.
    """
    path = expanded(instances)
    content = _load(path)
    names = {
        _id(item, path): _text(item, "name", path) for item in _items(content, "categories", path)
    }
    objects: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for item in _items(content, "annotations", path):
        if not item.get("iscrowd"):
            objects[item.get("image_id")].append(_object(item, names, path))
    said = _captions(expanded(captions)) if captions else {}
    images = _items(content, "images", path)
    for image in sorted(images, key=lambda item: _text(item, "file_name", path)):
        key = _id(image, path)
        row = {
            "file": image["file_name"],
            "width": image.get("width"),
            "height": image.get("height"),
            "objects": objects.get(key, []),
            "captions": said.get(key, []),
        }
        yield parse_scene(row, f"{path}: image {key}")


def _load(path: Path) -> dict[str, Any]:
    content = load_json(path, "name COCO's own annotation file")
    if not isinstance(content, dict):
        raise TTDError(f"{path}: no COCO annotations; name an instances_*.json")
    return content


def _items(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    items = content.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise TTDError(f'{path}: has no list "{key}"; name COCO\'s own annotation file')
    return items


def _id(item: dict[str, Any], path: Path) -> int | str:
    value = item.get("id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TTDError(f"{path}: an entry without an id: {str(item)[:80]}")
    return value


def _text(item: dict[str, Any], key: str, path: Path) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise TTDError(f'{path}: entry {item.get("id")}: "{key}" must be text')
    return value


def _object(item: dict[str, Any], names: dict[int | str, str], path: Path) -> dict[str, Any]:
    where = f"{path}: annotation {item.get('id')}"
    box, category = item.get("bbox"), item.get("category_id")
    if not isinstance(category, int | str) or category not in names:
        raise TTDError(f"{where}: category {category} is not in the file's list")
    if not isinstance(box, list) or [type(v) in (int, float) for v in box] != [True] * 4:
        raise TTDError(f'{where}: "bbox" must be [x, y, width, height]')
    left, top, width, height = box
    return {"label": names[category], "box": [left, top, left + width, top + height]}


def _captions(path: Path) -> dict[Any, list[str]]:
    said: dict[Any, list[str]] = defaultdict(list)
    for item in _items(_load(path), "annotations", path):
        said[item.get("image_id")].append(_text(item, "caption", path))
    return said
