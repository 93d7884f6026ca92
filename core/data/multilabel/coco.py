"""COCO val2014 from instances_val2014.json: an image shows the classes of its annotations.

Crowds count, as in the lists of Cole et al. (CVPR 2021), whose sizes are PIAA's.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import TTDError
from ...utils.files import bad_id, expanded, is_there
from ...utils.json_lines import load_json
from .label_sets import LabelSet, any_class, flags_of, plain_variant

FORM = "wanted is COCO's instances json"
PUBLISHED = (40137, 116592)


def read_coco(root: str | Path, key: str = "coco14") -> LabelSet:
    """The val split: images with any annotation (PIAA's) and all of them.

    root: the folder of annotations/ and val2014/ (or images/val2014/). The unlabelled train images
    are those of annotations/instances_train2014.json that have annotations, else all files of
    train2014/. TTDError naming file and entry.
    """
    place = expanded(root)
    names, files, rows = _read(_annotations(place, "val2014"))
    truth = flags_of(rows, len(names))
    labelled = any_class(truth)
    return LabelSet(
        key,
        "COCO val2014",
        names,
        tuple(PurePosixPath(file).stem for file in files),
        tuple(_image(place, "val2014", file) for file in files),
        (
            plain_variant("PIAA", "without unlabelled images", truth, labelled, PUBLISHED),
            plain_variant("all images", "with unlabelled images", truth),
        ),
        tuple(_train(place)),
    )


def _annotations(place: Path, split: str) -> Path:
    name = f"instances_{split}.json"
    for path in (place / "annotations" / name, place / name):
        if path.is_file():
            return path
    raise TTDError(
        f"{place}: no annotations/{name}; --root is the folder of annotations/ and {split}/"
    )


def _image(place: Path, split: str, file: str) -> Path:
    """Where an image lies: in SPLIT/ or images/SPLIT/."""
    folders = (place / split, place / "images" / split, place / "images", place)
    choices = [folder / file for folder in folders]
    return next((path for path in choices if is_there(path)), choices[0])


def _train(place: Path) -> list[Path]:
    try:
        path = _annotations(place, "train2014")
    except TTDError:
        folders = (place / "train2014", place / "images" / "train2014")
        return next((sorted(folder.glob("*.jpg")) for folder in folders if folder.is_dir()), [])
    _, files, rows = _read(path)
    labelled = [file for file, row in zip(files, rows, strict=True) if row]
    return [_image(place, "train2014", file) for file in labelled]


def _read(path: Path) -> tuple[tuple[str, ...], list[str], list[list[int]]]:
    """Class names by category id, file names by image id, and the classes of each image."""
    content = load_json(path, FORM)
    if not isinstance(content, dict):
        raise TTDError(f"{path}: not an object; {FORM}")
    names = _names(path, _entries(path, content, "categories"))
    files = _files(path, _entries(path, content, "images"))
    numbers = {number: place for place, number in enumerate(sorted(names))}
    rows: dict[int, set[int]] = {number: set() for number in sorted(files)}
    for at, entry in enumerate(_entries(path, content, "annotations")):
        image, category = _number(entry.get("image_id")), _number(entry.get("category_id"))
        if image not in rows or category not in numbers:
            raise TTDError(
                f"{path}: annotations[{at}]: image_id {str(entry.get('image_id'))[:40]} or "
                f"category_id {str(entry.get('category_id'))[:40]} is not listed; {FORM}"
            )
        rows[image].add(numbers[category])
    classes = tuple(names[number] for number in sorted(names))
    return classes, [files[n] for n in sorted(files)], [sorted(rows[n]) for n in sorted(files)]


def _number(value: Any) -> int | None:
    """A whole number, also as its digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _entries(path: Path, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TTDError(f"{path}: no list of {key}; {FORM}")
    return entries


def _names(path: Path, entries: list[dict[str, Any]]) -> dict[int, str]:
    """Class names by category id."""
    names: dict[int, str] = {}
    for at, entry in enumerate(entries):
        number, name = _number(entry.get("id")), entry.get("name")
        if number is None or not isinstance(name, str) or not name.strip() or number in names:
            raise TTDError(f"{path}: categories[{at}]: no id and name of its own; {FORM}")
        names[number] = name
    if not names or len(set(names.values())) < len(names):
        raise TTDError(f"{path}: no categories, or two of one name; {FORM}")
    return names


def _files(path: Path, entries: list[dict[str, Any]]) -> dict[int, str]:
    """File names by image id."""
    files: dict[int, str] = {}
    for at, entry in enumerate(entries):
        number, name = _number(entry.get("id")), entry.get("file_name")
        if number is None or not isinstance(name, str) or bad_id(name) or number in files:
            raise TTDError(f"{path}: images[{at}]: no id and file_name of its own; {FORM}")
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise TTDError(f"{path}: images[{at}]: file_name {name[:60]!r} leaves its folder")
        files[number] = name
    if not files:
        raise TTDError(f"{path}: no images; {FORM}")
    return files
