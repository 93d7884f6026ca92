"""All masks of a folder in one file in COCO's result format: run lengths per image and class."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..data.labels.rle import encode
from ..utils.files import atomic, write_errors
from .results import MaskFolder


def write_rle(folder: MaskFolder, names: Sequence[str], categories: Mapping[int, int]) -> None:
    """Write FOLDER/rle.json, whole or not at all.

    A list of {"image_id": name, "category_id": id, "segmentation": RLE}.
    categories: category id by pixel value; other values (background, ignored) get no entry.
    Raises TTDError when it cannot be written.
    """
    path = folder.path / "rle.json"
    separator = "[\n"
    with (
        write_errors(path, "make room and run the same command again"),
        atomic(path, durable=True) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for entry in _entries(folder, names, categories):
            file.write(separator + json.dumps(entry, ensure_ascii=False))
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def _entries(
    folder: MaskFolder, names: Sequence[str], categories: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    """One entry per image and category in it, in the order of `names` and pixel values."""
    for name in names:
        mask = np.asarray(Image.open(folder.mask(name)))
        for value in np.unique(mask).tolist():
            if value in categories:
                yield {
                    "image_id": name,
                    "category_id": categories[value],
                    "segmentation": encode(mask == value),
                }
