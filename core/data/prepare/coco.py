"""COCO's instances json to label maps: every object in its class, smaller objects on top."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ..dataset_yaml import load_shipped
from ..rle import Mask, decode, fill_polygons

Entry: TypeAlias = dict[str, Any]  # an image or an annotation of the json


def read_instances(path: Path) -> tuple[list[Entry], dict[int, list[Entry]]]:
    """Images sorted by file name, and the annotations of each image id.

    TTDError when the file cannot be read, is no such json, or has other categories than COCO's.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = sorted(content["images"], key=lambda image: image["file_name"])
        names = {category["id"]: category["name"] for category in content["categories"]}
        objects: dict[int, list[Entry]] = defaultdict(list)
        for annotation in content["annotations"]:
            objects[annotation["image_id"]].append(annotation)
    except OSError as error:
        raise TTDError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TTDError(
            f"{path}: no instances json of COCO ({type(error).__name__}: {error})"
        ) from None
    _check_categories(names, path)
    return images, objects


@lru_cache(maxsize=1)
def labels_by_category() -> dict[int, int]:
    """COCO's category ids (1-90) -> labels 1-80."""
    raw_labels = load_shipped("COCO2014")["raw"]  # of the pixel maps: category - 1
    return {raw + 1: label for raw, label in raw_labels.items() if raw < 91 and 0 < label < 255}


def draw_instances(annotations: Sequence[Entry], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Label map uint8 [H, W]: 0 background, 1-80 the classes.

    Objects are drawn from the one with the most pixels to the one with the fewest, so that a
    person's tie is not hidden by the person; equal ones in the order of their ids. Crowds are drawn
    like any other object. TTDError for a mask of another size.
    """
    table = labels_by_category()
    drawn = [(item, _mask(item, height, width)) for item in annotations]
    drawn.sort(key=lambda pair: (-np.count_nonzero(pair[1]), pair[0]["id"]))
    labels = np.zeros((height, width), np.uint8)
    for item, mask in drawn:
        labels[mask] = table[item["category_id"]]
    return labels


def _mask(annotation: Entry, height: int, width: int) -> Mask:
    """One object, bool [H, W], from polygons or run lengths."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        return fill_polygons(shape, height, width)
    mask = decode(shape)
    if mask.shape != (height, width):
        raise TTDError(
            f"annotation {annotation['id']}: a mask of {mask.shape} "
            f"for an image of {(height, width)}"
        )
    return mask


def _check_categories(names: dict[int, str], path: Path) -> None:
    """TTDError unless the json's categories are COCO's 80."""
    classes, table = load_shipped("COCO2014")["classes"], labels_by_category()
    for number, name in names.items():
        if number not in table or classes[table[number] - 1] != name:
            raise TTDError(
                f"{path}: category {number} '{name}' is none of COCO's 80 objects; "
                "describe your own set in a YAML instead"
            )
