"""A labelled set, or a part of it, as files that training and other tools read.

`cc3m`: the layout of CC3M-TagMask. `coco`: images and one annotation file. `pairs`: images with
captions, for train_ttd.py. `phrases`: images and phrases with boxes, for train_grounding.py.
"""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.labels.datasets import MASKS_OF_TAGS
from ..data.labels.rle import decode
from ..data.records import Record, read_record
from ..data.records.ids import Distinct
from ..errors import TTDError, UnreadableError
from ..evaluation.preview import Photo
from ..export.names import file_stem
from ..export.source import read_bytes, read_header
from ..export.walk import KEPT
from ..utils.files import safe_id, write_bytes, write_errors
from .masks import png_of
from .rows import LabelledSet, as_json, rle_of

ADVICE = "make room, or choose another --out"


@dataclass(frozen=True)
class Choice:
    """Which pairs: those of any of `tags` (lower case; none: all), the first `limit` of them."""

    tags: tuple[str, ...] = ()
    limit: int | None = None

    def takes(self, row: dict[str, Any]) -> bool:
        """Whether a pair is one of these."""
        return not self.tags or any(tag.lower() in self.tags for tag in row["tags"])


@dataclass
class Exported:
    """How many pairs were written, and a line for each that was left out."""

    pairs: int = 0
    left: list[str] = field(default_factory=list)


class Writer(ABC):
    """Writes one form. needs: columns without which it cannot."""

    needs: tuple[str, ...] = ()
    images = "images"

    def __init__(self, out: Path) -> None:
        self.out = out

    @abstractmethod
    def add(self, row: dict[str, Any], name: str) -> None:
        """One pair, whose image lies at `images`/`name`. OSError: it cannot be written."""

    def close(self) -> None:  # noqa: B027  (most have nothing to do)
        """Write what is only known at the end."""


class Cc3m(Writer):
    """image/ID.jpg, json_refined/ID.json, and a mask of every tag."""

    needs, images = ("masks",), "image"

    def add(self, row: dict[str, Any], name: str) -> None:
        """The image's tags and the masks of those that are safe as file names."""
        stem = Path(name).stem
        masks = [one for one in row["masks"] if safe_id(one["tag"]) == one["tag"]]
        for one in masks:
            path = self.out / MASKS_OF_TAGS / stem / f"{one['tag']}.png"
            _write(path, png_of(decode(rle_of(one["rle"]))))
        content = {"text": row["caption"], "tags": [one["tag"] for one in masks]}
        _write(self.out / "json_refined" / f"{stem}.json", as_json(content).encode())


class Pairs(Writer):
    """image/ID.jpg and json/ID.json."""

    images = "image"

    def add(self, row: dict[str, Any], name: str) -> None:
        """The caption beside its image."""
        path = self.out / "json" / f"{Path(name).stem}.json"
        _write(path, as_json({"text": row["caption"]}).encode())


class Lines(Writer):
    """phrases.jsonl, a line for every box of the set that holds some of its image."""

    needs = ("boxes",)

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self._lines: list[str] = []

    def add(self, row: dict[str, Any], name: str) -> None:
        """A line for every box with an area."""
        for number, one in enumerate(row["boxes"]):
            left, top, right, bottom = one["box"]
            if right > left and bottom > top:
                own = f"{Path(name).stem}#{number}"
                line = {"id": own, "image": name, "box": one["box"], "text": one["text"]}
                self._lines.append(as_json(line))

    def close(self) -> None:
        """Write all lines."""
        _write(self.out / "phrases.jsonl", "".join(f"{one}\n" for one in self._lines).encode())


class Coco(Writer):
    """annotations.json with an annotation for every mask of a tag that is not empty."""

    needs = ("masks",)

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self._images: list[dict[str, Any]] = []
        self._marks: list[dict[str, Any]] = []
        self._ids: dict[str, int] = {}

    def add(self, row: dict[str, Any], name: str) -> None:
        """An image, and an annotation for every mask with an area."""
        number, size = len(self._images) + 1, {key: row[key] for key in ("width", "height")}
        self._images.append({"id": number, "file_name": name, **size, "caption": row["caption"]})
        for one in row["masks"]:
            if one["area"]:
                self._marks.append(self._mark(one, number))

    def _mark(self, one: dict[str, Any], image: int) -> dict[str, Any]:
        rows, columns = np.nonzero(decode(rle_of(one["rle"])))
        left, top = int(columns.min()), int(rows.min())
        name = one["tag"].lower()
        return {
            "id": len(self._marks) + 1,
            "image_id": image,
            "category_id": self._ids.setdefault(name, len(self._ids) + 1),
            "bbox": [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top],
            "area": one["area"],
            "iscrowd": 0,
            "segmentation": rle_of(one["rle"]),
        }

    def close(self) -> None:
        """Write the whole file."""
        content = {
            "info": {"description": "made by TTD"},
            "licenses": [],
            "images": self._images,
            "annotations": self._marks,
            "categories": [{"id": k, "name": name} for name, k in self._ids.items()],
        }
        _write(self.out / "annotations.json", json.dumps(content).encode())


WRITERS: dict[str, type[Writer]] = {"cc3m": Cc3m, "coco": Coco, "pairs": Pairs, "phrases": Lines}


def export_labels(
    labels: LabelledSet,
    form: str,
    out: Path,
    choice: Choice,
    progress: Callable[[int], None] = lambda done: None,
) -> Exported:
    """Write the chosen pairs, with copies of their images, into the folder `out`.

    Images that every tool reads are copied as they are, others become PNG. TTDError: the set lacks
    what the form needs, shards are gone, or the folder cannot be written.
    """
    writer, done, distinct = WRITERS[form](out), Exported(), Distinct()
    lacking = [name for name in writer.needs if name not in labels.columns]
    if lacking:
        raise TTDError(
            f"{labels.out}: no {', '.join(lacking)} in these labels, which {form} needs; label the "
            f"set with --want {' '.join(lacking)}"
        )
    with write_errors(out, ADVICE):
        for row, record in _chosen(labels, choice):
            stem = distinct(file_stem(f"{row['key']}.x"))
            try:
                name, data = _portable(record, stem)
            except UnreadableError:
                raise
            except TTDError as error:
                done.left.append(str(error))
                continue
            _write(out / writer.images / name, data)
            writer.add(row, name)
            done.pairs += 1
            progress(1)
        writer.close()
    return done


def _chosen(labels: LabelledSet, choice: Choice) -> Iterator[tuple[dict[str, Any], Record]]:
    """The chosen rows with their records, until there are enough; none that other settings made."""
    count = 0
    for shard in filter(labels.made, labels.shards):
        for row, record in shard.with_records():
            if choice.takes(row):
                count += 1
                yield row, record
            if count == choice.limit:
                return


def _portable(record: Record, stem: str) -> tuple[str, bytes]:
    """The name and bytes of a copy of an image. TTDError: it cannot be read."""
    photo = Photo(record.name, partial(read_record, record), record.image)
    _, _, form = read_header(photo)
    if form in KEPT:
        return stem + KEPT[form], read_bytes(photo)
    file = io.BytesIO()
    Image.fromarray(photo.read()).save(file, format="PNG")
    return f"{stem}.png", file.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
