"""Ref-L4: long phrases with boxes of 365 classes; predictions in the release's form.

ref-l4-val.parquet (which needs pyarrow), or the same rows as JSONL or a JSON list: id, caption,
bbox [x, y, w, h], ori_category_id, file_name, height, width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import TTDError
from ...utils.files import bad_id, check_regular, expanded, is_there
from ...utils.json_lines import json_rows, load_json
from ...utils.shown import first_few
from ..grounding import Box, Phrase, check_numbers
from ..labels.regions import region_of

FORM = "wanted are rows of Ref-L4: id, caption, bbox, ori_category_id, file_name"
PREDICTION = (
    '{"id": "...", "pred_bbox": [4 numbers], "format": "xyxy" or "xywh"}, or of a mask '
    '{"id": "...", "segmentation": RLE}'
)


@dataclass(frozen=True)
class Annotation:
    """One phrase with its box (corners in pixels) and class; size: sqrt(w h) of the box."""

    phrase: Phrase
    category: str
    size: float


def read_annotations(
    paths: Sequence[str | Path], images: str | Path | None = None
) -> list[Annotation]:
    """The rows of one or more files. images: their folder; None: beside the file, or images/.

    TTDError naming file and row: not readable, a malformed row, an id that occurs twice.
    """
    found: list[Annotation] = []
    for item in paths:
        place = expanded(item)
        folder = place.parent / "images" if images is None else expanded(images)
        for number, row in enumerate(_rows(place)):
            found.append(_annotation(len(found), row, folder, f"{place}: row {number}"))
    ids = [one.phrase.id for one in found]
    if len(set(ids)) < len(ids):
        raise TTDError(f"{paths[0]}: an id occurs twice; val and test have ids of their own")
    if not found:
        raise TTDError(f"{paths[0]}: no rows; {FORM}")
    return found


def _rows(path: Path) -> Iterable[Any]:
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    if path.suffix.lower() == ".json":
        content = load_json(path, FORM)
        if not isinstance(content, list):
            raise TTDError(f"{path}: not a list; {FORM}")
        return content
    return (row for _, row in json_rows(path, FORM))


def _parquet(path: Path) -> list[Any]:
    check_regular(path)
    try:
        from pyarrow import parquet
    except ImportError:
        raise TTDError(
            f"{path}: needs pyarrow (pip install -r requirements-labels.txt); or give the same "
            "rows as JSONL"
        ) from None
    try:
        rows: list[Any] = parquet.read_table(path).to_pylist()
    except Exception as error:  # a damaged file raises a dozen kinds
        raise TTDError(f"{path}: cannot be read ({str(error)[:80]}); {FORM}") from None
    return rows


def _annotation(index: int, row: Any, folder: Path, where: str) -> Annotation:
    own = row if isinstance(row, dict) else {}
    text, category, name = (own.get(k) for k in ("caption", "ori_category_id", "file_name"))
    key = own.get("id")
    words = all(isinstance(value, str) and value.strip() for value in (text, category, name))
    if not words or not isinstance(key, str | int) or isinstance(key, bool):
        raise TTDError(f"{where}: {FORM}")
    place = PurePosixPath(str(name))
    if bad_id(str(name)) or place.is_absolute() or ".." in place.parts:
        raise TTDError(f"{where}: file_name {str(name)[:60]!r} leaves the folder of the images")
    box = own.get("bbox") or []
    check_numbers(box, where)
    left, top, width, height = (float(value) for value in box)
    if width < 0 or height < 0:
        raise TTDError(f"{where}: the box must be [x, y, width, height], got {box}")
    choices = [folder / str(name), folder.parent / str(name)]
    image = next((path for path in choices if is_there(path)), choices[0])
    corners = (left, top, left + width, top + height)
    phrase = Phrase(index, str(key), image, str(name), str(text), corners)
    return Annotation(phrase, str(category), math.sqrt(width * height))


def read_boxes(path: str | Path, wanted: Sequence[str]) -> list[Box]:
    """Predicted boxes as corners, in the order of the ids `wanted`.

    A JSON list or JSONL of `PREDICTION`. TTDError: an id that is missing, or there twice, and a
    malformed entry. Predictions of other ids are not looked at, as in the release.
    """
    place = expanded(path)
    form = f"wanted is {PREDICTION} for every id"
    content: Iterable[Any] = (row for _, row in json_rows(place, form))
    if place.suffix.lower() != ".jsonl":
        listed = load_json(place, form)
        content = listed if isinstance(listed, list) else [None]
    found: dict[str, Any] = {}
    for number, row in enumerate(content):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str | int):
            raise TTDError(f"{place}: entry {number}: {form}")
        if str(row["id"]) in found:
            raise TTDError(f"{place}: entry {number}: the id {row['id']} is there twice")
        found[str(row["id"])] = row
    lost = [key for key in wanted if key not in found]
    if lost:
        raise TTDError(f"{place}: no box for {len(lost)} ids ({first_few(lost, 3)})")
    return [_corners(found[key], f"{place}: {key}") for key in wanted]


def _corners(row: dict[str, Any], where: str) -> Box:
    """TTDError unless the entry is four numbers in one of the two formats."""
    if isinstance(row.get("segmentation"), dict):
        return _around(row["segmentation"], where)
    box, form = row.get("pred_bbox") or [], row.get("format")
    check_numbers(box, where)
    if form not in ("xyxy", "xywh"):
        raise TTDError(f"{where}: format must be xyxy or xywh, got {str(form)[:20]}")
    first, second, third, fourth = (float(value) for value in box)
    if form == "xywh":
        return first, second, first + third, second + fourth
    return first, second, third, fourth


def _around(rle: dict[str, Any], where: str) -> Box:
    """The box around a mask."""
    try:
        left, top, right, bottom = region_of(rle).corners()
    except TTDError as error:
        raise TTDError(f"{where}: {error}") from None
    return float(left), float(top), float(right), float(bottom)
