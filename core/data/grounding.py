"""Phrases with boxes: one JSONL line each, or the label lists (.pth) that CLIP-VG and TransVG read.

    {"image": "COCO_train2014_000000000839.jpg", "box": [303, 69, 596, 494], "text": "guy in red"}

`box` is left, top, right, bottom in pixels. Optional: "id", and "clean" (false: reviewers found the
label wrong). Label lists are read as data, never executed.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TTDError
from ..utils.files import expanded, is_there, regular_text
from ..utils.json_lines import json_rows
from ..utils.tensors.pickled_arrays import array_of
from ..utils.tensors.pickled_values import TensorRef
from ..utils.tensors.torch_files import TorchFile, read_torch_file
from .grounding_sets import GroundingSet, grounding_set

Box = tuple[float, float, float, float]
ENDINGS = (".jsonl", ".pth")
LARGEST = 1e6  # no image has more pixels on a side
FORM = '{"image": name, "box": [left, top, right, bottom], "text": phrase}'


@dataclass(frozen=True)
class Phrase:
    """A phrase and the box it stands for.

    image: the file; name: the image as the list has it; box: corners in pixels; clean: whether
    reviewers found the label right, None: not reviewed.
    """

    index: int
    id: str
    image: Path
    name: str
    text: str
    box: Box
    clean: bool | None = None

    def row(self) -> dict[str, Any]:
        """The JSONL line."""
        line = {"id": self.id, "image": self.name, "box": list(self.box), "text": self.text}
        return line if self.clean is None else {**line, "clean": self.clean}


@dataclass(frozen=True)
class PhraseList:
    """The phrases of one split, in order. place: where they were read from."""

    place: Path
    phrases: Sequence[Phrase]

    def __len__(self) -> int:
        return len(self.phrases)

    @property
    def digest(self) -> str:
        """Changes with the names, boxes and phrases, not with where they lie."""
        state = hashlib.sha256()
        for phrase in self.phrases:
            state.update(repr((phrase.name, phrase.text, phrase.box)).encode())
        return state.hexdigest()[:16]


def split_file(split_root: str | Path, dataset: str, split: str) -> Path:
    """{split_root}/{dataset}/{dataset}_{split}.jsonl, or the .pth list where only that is there.

    TTDError when neither is.
    """
    base = expanded(split_root) / dataset / f"{dataset}_{split}"
    files = [base.with_name(base.name + ending) for ending in ENDINGS]
    for file in files:
        if file.is_file():
            return file
    raise TTDError(
        f"{files[0]}: no such file, nor {files[1].name}; make it with tools/prepare_grounding.py"
    )


def open_split(
    data_root: str | Path, split_root: str | Path, dataset: str, split: str
) -> PhraseList:
    """A split of a benchmark. TTDError: unknown set or split, no file, a bad line."""
    known = grounding_set(dataset)
    if split not in known.splits:
        raise TTDError(f"{dataset} has no split {split!r}: choose {', '.join(known.splits)}")
    file = split_file(split_root, dataset, split)
    images = expanded(data_root) / known.images
    return read_phrases(file, images, known)


def read_phrases(
    path: str | Path, images: str | Path | None = None, known: GroundingSet | None = None
) -> PhraseList:
    """The phrases of a .jsonl, .csv or .pth file.

    Args:
        images: folder of the images; None: the file's own folder, or images/ beside the file.
        known: the benchmark, which says what the boxes of a .pth list are.
    Errors: TTDError with file and line: not readable, a bad line, no lines, none of the images.
    """
    path = expanded(path)
    if is_there(path) and path.is_dir():
        raise TTDError(
            f"{path}: is a folder; name a list in it: .jsonl with a line {FORM} each, .csv with "
            "columns image, left, top, right, bottom, text, or a .pth label list"
        )
    rows = list(read_rows(path, known))
    if not rows:
        raise TTDError(f"{path}: no phrases; a line is {FORM}")
    folders = [expanded(images)] if images else [path.parent, path.parent / "images"]
    phrases = [_phrase(n, row, folders, f"{path}:{n + 1}") for n, row in enumerate(rows)]
    if not any(is_there(phrase.image) for phrase in phrases[:200]):
        raise TTDError(
            f"{path}: none of its images is in {folders[-1]}, such as {rows[0]['image']}"
        )
    return PhraseList(path, phrases)


def read_rows(path: Path, known: GroundingSet | None) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl, .csv or .pth file, their values not checked yet.

    TTDError with file and line: not readable, not of its form.
    """
    if path.suffix == ".pth":
        yield from label_rows(path, known.xywh if known else False)
        return
    if path.suffix == ".csv":
        yield from _csv_rows(path, regular_text(path))
        return
    for _, row in json_rows(path, f"a line is {FORM}"):
        yield row


def _csv_rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    """Columns image, text, and left, top, right, bottom (or x, y, w, h)."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from _checked_csv(path, reader)
    except csv.Error as error:
        raise TTDError(f"{path}:{reader.line_num}: not a line of CSV ({error})") from None


def _checked_csv(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, Any]]:
    """The rows with their boxes as numbers. TTDError, csv.Error."""
    corners, sizes = ("left", "top", "right", "bottom"), ("x", "y", "w", "h")
    names = set(reader.fieldnames or ())
    columns = corners if names.issuperset(corners) else sizes
    if not names.issuperset((*columns, "image", "text")):
        raise TTDError(
            f"{path}: needs the columns image, text and {', '.join(corners)} (or x,y,w,h)"
        )
    for row in reader:
        try:
            box = [float(row[name]) for name in columns]
        except (ValueError, TypeError) as error:
            raise TTDError(f"{path}:{reader.line_num}: no box of numbers ({error})") from None
        if columns is sizes:
            box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        yield {**row, "box": box}


def label_rows(path: Path, xywh: bool) -> Iterator[dict[str, Any]]:
    """The records of a released label list: 5 elements (image, -, box, phrase, -), or 3.

    Boxes are cut to whole pixels as the release's own reader does (`whole_box`).
    Errors: TTDError naming the file and the record.
    """
    content = read_torch_file(path)
    if not isinstance(content.data, list):
        raise TTDError(f"{path}: holds no list of records")
    for number, record in enumerate(content.data, start=1):
        where = f"{path}: record {number}"
        if not isinstance(record, list | tuple) or len(record) not in (3, 5):
            raise TTDError(f"{where}: must have 5 elements (image, mask, box, phrase, ...), or 3")
        box, text = (record[2], record[3]) if len(record) == 5 else (record[1], record[2])
        numbers = _numbers(box, content, where)
        yield {"image": record[0], "box": list(whole_box(numbers, xywh, where)), "text": text}


def _numbers(box: Any, content: TorchFile, where: str) -> list[float]:
    """A box that is a list, an array or a tensor, as numbers."""
    array = array_of(box)
    if isinstance(box, TensorRef):
        box = content.tensor(box).flatten().tolist()
    elif array is not None:
        box = array.ravel().tolist()
    if not isinstance(box, list | tuple):
        raise TTDError(f"{where}: its box is no list of numbers")
    return list(box)


def whole_box(box: Sequence[float], xywh: bool, where: str = "box") -> Box:
    """Corners in whole pixels: every number is truncated first, then width and height are added.

    This is what CLIP-VG and TransVG train and score on. TTDError naming `where` for other values.
    """
    check_numbers(box, where)
    left, top, right, bottom = (float(int(value)) for value in box)
    return (left, top, left + right, top + bottom) if xywh else (left, top, right, bottom)


def check_numbers(box: Any, where: str) -> None:
    """TTDError unless `box` is four numbers that a pixel can have; NaN is none."""
    fine = isinstance(box, list | tuple) and len(box) == 4
    if not fine or not all(type(v) in (int, float) and -LARGEST < v < LARGEST for v in box):
        raise TTDError(f"{where}: the box must be four numbers, got {str(box)[:60]}")


def check_box(box: Any, where: str) -> Box:
    """`box` as corners. TTDError unless left <= right and top <= bottom."""
    check_numbers(box, where)
    left, top, right, bottom = (float(value) for value in box)
    if left > right or top > bottom:
        raise TTDError(f"{where}: the box must be [left, top, right, bottom], got {list(box)}")
    return left, top, right, bottom


def _not_text(*texts: str) -> bool:
    """Whether any holds half a surrogate pair, which JSON can and UTF-8 cannot."""
    return any("\ud800" <= char <= "\udfff" for text in texts for char in text)


def _phrase(index: int, row: dict[str, Any], folders: Sequence[Path], where: str) -> Phrase:
    name, text = row.get("image"), row.get("text")
    if not isinstance(name, str) or not name or not isinstance(text, str) or not text.strip():
        raise TTDError(f"{where}: a line is {FORM}")
    clean = row.get("clean")
    if clean is not None and not isinstance(clean, bool):
        raise TTDError(f'{where}: "clean" must be true or false')
    places = [folder / name for folder in folders]
    image = next((path for path in places if is_there(path)), places[0])
    label = str(row.get("id", index))
    if _not_text(text, name, label):
        raise TTDError(f"{where}: half a surrogate pair, which is no text; write it again")
    box = check_box(row.get("box"), where)
    return Phrase(index, label, image, name, text, box, clean=clean)
