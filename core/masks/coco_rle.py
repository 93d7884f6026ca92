"""All masks of a folder in one file, as COCO's result format has them: a run-length mask per picture and class."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ..data.rle import encode
from ..errors import TTDError
from .results import MaskFolder


def write_rle(folder: MaskFolder, names: Sequence[str], categories: Mapping[int, int]) -> None:
    """Write FOLDER/rle.json, whole or not at all: [{"image_id": name, "category_id": id, "segmentation": RLE}, ...].

    categories: category id by pixel value; other values (background, ignored) get no entry.
    Raises TTDError when it cannot be written.
    """
    path = folder.path / "rle.json"
    part = path.with_name(".rle.json.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            separator = "[\n"
            for name in names:
                mask = np.asarray(Image.open(folder.mask(name)))
                for value in np.unique(mask).tolist():
                    if value in categories:
                        entry = {"image_id": name, "category_id": categories[value],
                                 "segmentation": encode(mask == value)}
                        file.write(separator + json.dumps(entry, ensure_ascii=False))
                        separator = ",\n"
            file.write("[]\n" if separator == "[\n" else "\n]\n")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise TTDError(f"{path}: cannot be written ({error.strerror}); make room and run the same command again") \
            from None
