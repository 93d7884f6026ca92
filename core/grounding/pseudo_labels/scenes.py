"""What a detector, a scene-graph model and a captioner say of an image: one JSON line each.

    {"file": "COCO_train2014_000000000839.jpg", "width": 640, "height": 480,
     "objects": [{"label": "man", "box": [x1, y1, x2, y2], "score": 0.9,
                  "attribute": "tall", "attribute_score": 0.6}, ...],
     "attributes": [...],        # optional: objects of a second detector that knows attributes
     "relations": [{"subject": "man", "predicate": "riding", "object": "horse",
                    "subject_box": [...], "object_box": [...],
                    "p_sub": 0.8, "p_pred": 0.5, "p_obj": 0.7}, ...],
     "captions": ["a man riding a horse", ...]}

Any model can write it; `template_phrases`, `relation_phrases` and `caption_phrases` read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.grounding import Box, check_numbers
from ...errors import TTDError
from ...utils.files import expanded, is_there
from ...utils.json_lines import parse_json

FORM = '{"file": name, "width": W, "height": H, "objects": [...], ...}'


@dataclass(frozen=True)
class Detection:
    """An object: its class, box (corners in pixels), score in [0, 1], and attribute if known."""

    label: str
    box: Box
    score: float = 1.0
    attribute: str | None = None
    attribute_score: float = 1.0


@dataclass(frozen=True)
class Relation:
    """Subject, predicate, object in words; the subject's box; the three probabilities."""

    subject: str
    predicate: str
    object: str
    subject_box: Box
    probabilities: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """All that is known of an image of `width` x `height` pixels.

    attributes: objects of a second detector, whose attributes those of `objects` take over.
    """

    file: str
    width: int
    height: int
    objects: tuple[Detection, ...] = ()
    attributes: tuple[Detection, ...] = ()
    relations: tuple[Relation, ...] = ()
    captions: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """The JSON line."""
        return {
            "file": self.file,
            "width": self.width,
            "height": self.height,
            "objects": [_detection_row(item) for item in self.objects],
            "attributes": [_detection_row(item) for item in self.attributes],
            "relations": [_relation_row(item) for item in self.relations],
            "captions": list(self.captions),
        }


def read_scenes(path: str | Path) -> Iterator[Scene]:
    """The scenes of a JSONL file, one at a time. TTDError with file and line."""
    path = expanded(path)
    if not is_there(path) or not path.is_file():
        raise TTDError(f"{path}: no such file, or not a regular one; name a JSONL of scenes")
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield parse_scene(_row(line, f"{path}:{number}"), f"{path}:{number}")
    except OSError as error:
        raise TTDError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise TTDError(f"{path}: not UTF-8 text; save it as UTF-8") from None


def _row(line: str, where: str) -> dict[str, Any]:
    row = parse_json(line, where, f"a line is {FORM}")
    if not isinstance(row, dict):
        raise TTDError(f"{where}: a line is {FORM}")
    return row


def parse_scene(row: Mapping[str, Any], where: str) -> Scene:
    """A line as a `Scene`. TTDError naming `where` and the field that is wrong."""
    name = _text(row, "file", where)
    width, height = (_whole(row, key, where) for key in ("width", "height"))
    return Scene(
        file=name,
        width=width,
        height=height,
        objects=_detections(row, "objects", where),
        attributes=_detections(row, "attributes", where),
        relations=tuple(
            _relation(item, f"{where}: relations[{i}]")
            for i, item in enumerate(_items(row, "relations", where))
        ),
        captions=tuple(_caption(item, where) for item in _list(row, "captions", where)),
    )


def _detections(row: Mapping[str, Any], key: str, where: str) -> tuple[Detection, ...]:
    items = _items(row, key, where)
    return tuple(_detection(item, f"{where}: {key}[{i}]") for i, item in enumerate(items))


def _detection(row: Mapping[str, Any], where: str) -> Detection:
    attribute = row.get("attribute")
    if attribute is not None and not isinstance(attribute, str):
        raise TTDError(f'{where}: "attribute" must be text or null')
    return Detection(
        label=_text(row, "label", where),
        box=_box(row, "box", where),
        score=_share(row, "score", where),
        attribute=_words(attribute or "") or None,
        attribute_score=_share(row, "attribute_score", where),
    )


def _relation(row: Mapping[str, Any], where: str) -> Relation:
    if row.get("object_box") is not None:
        _box(row, "object_box", where)
    subject, predicate, target = (
        _text(row, key, where) for key in ("subject", "predicate", "object")
    )
    first, second, third = (_share(row, key, where) for key in ("p_sub", "p_pred", "p_obj"))
    box = _box(row, "subject_box", where)
    return Relation(subject, predicate, target, box, (first, second, third))


def _caption(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise TTDError(f'{where}: "captions" must be texts')
    return _words(value)


def _list(row: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise TTDError(f'{where}: "{key}" must be a list')
    return value


def _items(row: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    values = _list(row, key, where)
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise TTDError(f"{where}: {key}[{number}] must be an object")
    return values


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise TTDError(f'{where}: "{key}" must be text')
    return value if key == "file" else _words(value)


def _words(text: str) -> str:
    """One blank between words, none around them."""
    return " ".join(text.split())


def _whole(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if type(value) is not int or not 0 < value < 1 << 20:
        raise TTDError(f'{where}: "{key}" must be a positive number of pixels')
    return value


def _share(row: Mapping[str, Any], key: str, where: str) -> float:
    """A probability; 1 where it is not given."""
    value = row.get(key)
    if value is None:
        return 1.0
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise TTDError(f'{where}: "{key}" must be between 0 and 1')
    return float(value)


def _box(row: Mapping[str, Any], key: str, where: str) -> Box:
    """Four numbers; whether they are a box with an area is up to the caller."""
    check_numbers(row.get(key), f'{where}: "{key}"')
    left, top, right, bottom = (float(value) for value in row[key])
    return left, top, right, bottom


def _detection_row(item: Detection) -> dict[str, Any]:
    row: dict[str, Any] = {"label": item.label, "box": list(item.box), "score": item.score}
    if item.attribute is not None:
        row |= {"attribute": item.attribute, "attribute_score": item.attribute_score}
    return row


def _relation_row(item: Relation) -> dict[str, Any]:
    first, second, third = item.probabilities
    return {
        "subject": item.subject,
        "predicate": item.predicate,
        "object": item.object,
        "subject_box": list(item.subject_box),
        "p_sub": first,
        "p_pred": second,
        "p_obj": third,
    }
