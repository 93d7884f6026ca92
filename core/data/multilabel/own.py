"""Label lists: a file of your own, or a list that a paper ships, as one more reading of a set.

{"image": "a.jpg", "labels": ["dog", "cat"], "ignored": ["bird"]}      .jsonl
image,labels / a.jpg,dog|cat                                           .csv, .tsv
image,dog,cat / a.jpg,1,0                                              .csv: 1, 0, or ? (ignored)
000001 11 14                                                           .txt: class numbers from 0
formatted_val_labels.npy beside formatted_val_images.npy               .npy (Cole et al.)
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...errors import TTDError
from ...utils.files import check_regular, expanded, regular_text
from ...utils.json_lines import json_rows
from ...utils.shown import first_few
from ..image_lists import find_beside
from .label_sets import Flags, LabelSet, Variant

FORM = '{"image": file, "labels": [class, ...]}, optional "ignored": [class, ...]'
# Images and positives of lists that are known by their file alone, by set and the file's name.
PUBLISHED = {("nus", "PIAA"): (60260, 113418)}
MARKS = {"1": True, "1.0": True, "0": False, "0.0": False, "": False, "?": None}


@dataclass(frozen=True)
class Listed:
    """One image of a list: its file name, its classes, and those that are not scored.

    absent: classes that the list says are not there.
    """

    name: str
    labels: frozenset[str]
    ignored: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()

    @property
    def named(self) -> frozenset[str]:
        """Every class that it speaks of."""
        return self.labels | self.ignored | self.absent


def read_own(path: str | Path, classes: Sequence[str] = (), root: str | None = None) -> LabelSet:
    """A list of one's own as a set.

    Args:
        path: any form of this file's docstring.
        classes: the classes in their order; () takes those that the list names, sorted.
        root: folder of the images; None: the list's own, or images/ beside it.
    Errors: TTDError with file and line.
    """
    place = expanded(path)
    rows = read_list(place, classes)
    names = tuple(classes) or tuple(sorted(frozenset().union(*(row.named for row in rows))))
    if not any(row.labels for row in rows):
        raise TTDError(f"{place}: no image shows any class, so there is nothing to rank")
    folder = place.parent if root is None else expanded(root)
    variant = _variant(place, rows, names, list(range(len(rows))), len(rows), "your labels")
    return LabelSet(
        "own",
        place.name,
        names,
        tuple(row.name for row in rows),
        tuple(find_beside(folder, row.name) for row in rows),
        (variant,),
    )


def with_list(labels: LabelSet, path: str | Path) -> LabelSet:
    """A set with a list as one more reading of its labels; images are matched by name.

    The list's images are the ones that it scores. TTDError: images that the set does not have.
    """
    place = expanded(path)
    rows = read_list(place, labels.classes)
    numbers = {PurePosixPath(name).stem: at for at, name in enumerate(labels.ids)}
    if len(numbers) < len(labels):
        raise TTDError(f"{labels.title}: images of one name in two folders; no list can tell them")
    stems = [PurePosixPath(row.name.replace("\\", "/")).stem for row in rows]
    lost = [stem for stem in stems if stem not in numbers]
    if lost:
        raise TTDError(
            f"{place}: {len(lost)} of {len(rows)} images are not in {labels.title} "
            f"({first_few(lost, 3)})"
        )
    places = [numbers[stem] for stem in stems]
    if len(set(places)) < len(places):
        raise TTDError(f"{place}: two images of one name; the set tells images by their names")
    more = _variant(place, rows, labels.classes, places, len(labels), "a list of yours")
    more = replace(more, published=PUBLISHED.get((labels.key, more.name)))
    if more.name in {variant.name for variant in labels.variants}:
        more = replace(more, name=f"{more.name}, list")
    return replace(labels, variants=(*labels.variants, more))


def _variant(
    path: Path,
    rows: Sequence[Listed],
    classes: Sequence[str],
    places: Sequence[int],
    count: int,
    meaning: str,
) -> Variant:
    """The rows as a variant of `count` images; places: of each row among them."""
    numbers = {name: k for k, name in enumerate(classes)}
    chosen, shape = np.zeros(count, bool), (count, len(classes))
    truth, scored = np.zeros(shape, bool), np.ones(shape, bool)
    for at, row in zip(places, rows, strict=True):
        unknown = sorted(row.named - numbers.keys())
        if unknown:
            raise TTDError(
                f"{path}: {row.name}: {first_few(unknown, 3)} is no class; there are "
                f"{first_few(list(classes))}"
            )
        chosen[at] = True
        truth[at, [numbers[name] for name in row.labels]] = True
        scored[at, [numbers[name] for name in row.ignored]] = False
    return Variant(path.stem, meaning, chosen, truth, scored)


def read_list(path: Path, classes: Sequence[str]) -> list[Listed]:
    """The rows of a list in any form. TTDError with file and line; also for none, or one twice."""
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        rows = list(_json_lines(path))
    elif ending in (".csv", ".tsv"):
        rows = list(_csv_lines(path, "\t" if ending == ".tsv" else ","))
    elif ending == ".txt":
        rows = list(_numbered_lines(path, classes))
    elif ending == ".npy":
        rows = list(_arrays(path, classes))
    else:
        raise TTDError(f"{path}: a list of labels ends in .jsonl, .csv, .tsv, .txt or .npy")
    if not rows:
        raise TTDError(f"{path}: no images in it")
    (commonest, times), *_ = Counter(row.name for row in rows).most_common(1)
    if times > 1:
        raise TTDError(f"{path}: {commonest} is listed twice")
    for row in rows:
        if both := row.labels & row.ignored:
            raise TTDError(f"{path}: {row.name}: {sorted(both)[0]} is both a label and ignored")
    return rows


def read_classes(path: str | Path) -> list[str]:
    """Class names, one a line; synonyms as `person|human`. TTDError: none, or one twice."""
    place = expanded(path)
    names = [line.strip() for line in regular_text(place).splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        raise TTDError(f"{place}: must hold one class a line, each once")
    return names


def _json_lines(path: Path) -> Iterator[Listed]:
    for number, row in json_rows(path, f"a line is {FORM}"):
        name, labels = row.get("image"), _texts(row.get("labels", row.get("tags")))
        ignored = _texts(row.get("ignored", []))
        if not isinstance(name, str) or not name or labels is None or ignored is None:
            raise TTDError(f"{path}:{number}: a line is {FORM}")
        yield Listed(name, labels, ignored)


def _texts(value: Any) -> frozenset[str] | None:
    """Distinct class names; None for anything but a list of names."""
    fine = isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)
    return frozenset(value) if fine else None


def _csv_lines(path: Path, separator: str) -> Iterator[Listed]:
    """Columns image and labels, or image and one column for each class."""
    text = io.StringIO(regular_text(path), newline="")
    reader = csv.DictReader(text, delimiter=separator, strict=True)
    try:
        columns = list(reader.fieldnames or ())
        if "image" not in columns or len(columns) < 2 or len(set(columns)) < len(columns):
            raise TTDError(f"{path}: needs the columns image and labels, or image and the classes")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values() or not row["image"].strip():
                raise TTDError(f"{where}: another number of fields than columns, or no image")
            yield _joined(row) if "labels" in columns else _wide(row, where)
    except csv.Error as error:
        raise TTDError(f"{path}:{reader.line_num}: not a line of CSV ({error})") from None


def _joined(row: dict[str, str]) -> Listed:
    """Classes separated by | or ; in one field."""
    parts = (part.strip() for part in row["labels"].replace(";", "|").split("|"))
    hidden = (part.strip() for part in row.get("ignored", "").replace(";", "|").split("|"))
    return Listed(row["image"], frozenset(filter(None, parts)), frozenset(filter(None, hidden)))


def _wide(row: dict[str, str], where: str) -> Listed:
    """A mark for each class. -1 is refused: lists differ in whether it or 0 means "not there"."""
    marks = {name: value.strip() for name, value in row.items() if name != "image"}
    for name, value in marks.items():
        if value not in MARKS:
            raise TTDError(
                f"{where}: {name} is {value[:20]!r}; write 1 (there), 0 (not there) or ? (ignored)"
            )
    labels = frozenset(name for name, value in marks.items() if MARKS[value])
    ignored = frozenset(name for name, value in marks.items() if MARKS[value] is None)
    return Listed(row["image"], labels, ignored, frozenset(marks) - labels - ignored)


def _numbered_lines(path: Path, classes: Sequence[str]) -> Iterator[Listed]:
    """An id and class numbers from 0 on a line, TagCLIP's form."""
    if not classes:
        raise TTDError(f"{path}: holds class numbers; name the classes with --set or --classes")
    for number, line in enumerate(regular_text(path).splitlines(), start=1):
        name, *parts = line.split() or [""]
        known = all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts)
        if not name:
            continue
        if not known or any(int(part) >= len(classes) for part in parts):
            raise TTDError(
                f"{path}:{number}: a line is an id and class numbers from 0 to {len(classes) - 1}"
            )
        yield Listed(name, frozenset(classes[int(part)] for part in parts))


def _arrays(path: Path, classes: Sequence[str]) -> Iterator[Listed]:
    """A matrix [N, C] of 0 and 1, and the N names in the file with `images` for `labels`."""
    beside = path.with_name(path.name.replace("labels", "images"))
    if not classes or beside == path:
        raise TTDError(f"{path}: needs *_labels.npy beside *_images.npy, and --set or --classes")
    matrix, names = _array(path), _array(beside)
    plain = names.dtype.kind == "U" and names.ndim == 1 and matrix.dtype.kind in "biuf"
    if not plain or matrix.shape != (len(names), len(classes)):
        raise TTDError(
            f"{path}: {matrix.dtype} {list(matrix.shape)} for {names.size} names and "
            f"{len(classes)} classes"
        )
    if not np.isin(matrix, (0, 1)).all():
        raise TTDError(f"{path}: holds other values than 0 and 1")
    flags: Flags = matrix == 1
    for name, row in zip(names.tolist(), flags, strict=True):
        yield Listed(name, frozenset(classes[k] for k in np.flatnonzero(row).tolist()))


def _array(path: Path) -> Any:
    """An array of a regular .npy file, of which nothing is executed. TTDError."""
    check_regular(path)
    try:
        return np.load(path, allow_pickle=False)
    except Exception:  # a damaged header raises half a dozen kinds
        raise TTDError(f"{path}: no plain array of NumPy") from None
