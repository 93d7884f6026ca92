"""classes.json beside a result: what its label values are called and which colours they have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.labels.datasets import Dataset
from ..errors import TTDError
from ..utils.files import atomic, regular_text, write_errors

NAME = "classes.json"


@dataclass(frozen=True)
class LabelClass:
    """A label value 0-255, its name, its synonyms, and its colour (red, green, blue)."""

    id: int
    name: str
    synonyms: tuple[str, ...]
    color: tuple[int, int, int]


def classes_of(dataset: Dataset) -> list[LabelClass]:
    """The classes of a set by label value, the background first where it is one."""
    found = []
    for label, names in zip(dataset.label_values, dataset.label_names, strict=True):
        first, *others = (name.strip() for name in names.split("|"))
        red, green, blue = dataset.palette[label].tolist()
        found.append(LabelClass(label, first, tuple(others), (red, green, blue)))
    return found


def write_classes(folder: Path, classes: list[LabelClass]) -> None:
    """Write FOLDER/classes.json: a list of {"id", "name", "color": [r, g, b]}, and "synonyms".

    Several processes may do so at once. TTDError when it cannot be written.
    """
    lines = [json.dumps(_entry(one), ensure_ascii=False) for one in classes]
    path = folder / NAME
    with (
        write_errors(path, "make room, or choose another --out"),
        atomic(path, shared=True) as part,
    ):
        part.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def _entry(one: LabelClass) -> dict[str, Any]:
    """A class as JSON holds it."""
    entry: dict[str, Any] = {"id": one.id, "name": one.name}
    if one.synonyms:
        entry["synonyms"] = list(one.synonyms)
    return {**entry, "color": list(one.color)}


def read_classes(folder: Path) -> list[LabelClass]:
    """FOLDER/classes.json; [] where there is none. TTDError when it is something else."""
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        return [_parsed(entry) for entry in json.loads(regular_text(path))]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TTDError(
            f'{path}: not a list of {{"id": label, "name": text, "color": [r, g, b]}}; mend it, '
            "or delete it to see labels as numbers"
        ) from None


def _parsed(entry: dict[str, Any]) -> LabelClass:
    """One entry of the list. ValueError, KeyError or TypeError for anything else."""
    label, name, colour = entry["id"], entry["name"], entry["color"]
    if type(label) is not int or not isinstance(name, str) or not 0 <= label <= 255:
        raise ValueError
    red, green, blue = (int(value) for value in colour)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError
    return LabelClass(label, name, tuple(entry.get("synonyms", ())), (red, green, blue))
