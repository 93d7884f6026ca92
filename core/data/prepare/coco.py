"""COCO's instances json to label maps: every object in its class, smaller objects on top of larger ones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import TTDError
from ..dataset_yaml import load_shipped
from ..rle import decode, fill_polygons


def read_instances(path: Path) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]]]:
    """Images by file name, and the annotations of each image id. TTDError when it is no such json."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pictures = sorted(content["images"], key=lambda picture: picture["file_name"])
        names = {category["id"]: category["name"] for category in content["categories"]}
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            objects[annotation["image_id"]].append(annotation)
    except OSError as error:
        raise TTDError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TTDError(
            f"{path}: no instances json of COCO ({type(error).__name__}: {error})"
        ) from None
    _check_categories(names, path)
    return pictures, objects


def labels_by_category() -> dict[int, int]:
    """COCO's category ids (1-90) -> labels 1-80."""
    return {
        raw + 1: label
        for raw, label in load_shipped("COCO2014")["raw"].items()
        if 0 < label < 255 and raw < 91
    }


def draw_instances(annotations: Sequence[dict[str, Any]], height: int, width: int) -> np.ndarray:
    """Label map uint8 [H, W]: 0 background, 1-80 the classes.

    Objects are drawn from the one with the most pixels to the one with the fewest, so that a
    person's tie is not hidden by the person; equal ones in the order of their ids. Crowds are drawn
    like any other object.
    """
    table = labels_by_category()
    masks = [
        (_mask(item, height, width), item["id"], table[item["category_id"]]) for item in annotations
    ]
    labels = np.zeros((height, width), np.uint8)
    for mask, _, label in sorted(masks, key=lambda entry: (-np.count_nonzero(entry[0]), entry[1])):
        labels[mask] = label
    return labels


def _mask(annotation: dict[str, Any], height: int, width: int) -> np.ndarray:
    """One object, bool [H, W], from polygons or run lengths."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        return fill_polygons(shape, height, width)
    mask = decode(shape)
    if mask.shape != (height, width):
        raise TTDError(
            f"annotation {annotation['id']}: a mask of {mask.shape} for an image of {(height, width)}"
        )
    return mask


def _check_categories(names: dict[int, str], path: Path) -> None:
    """TTDError unless the json's categories are COCO's 80."""
    classes, table = load_shipped("COCO2014")["classes"], labels_by_category()
    for number, name in names.items():
        if number not in table or classes[table[number] - 1] != name:
            raise TTDError(
                f"{path}: category {number} '{name}' is none of COCO's 80 objects; describe your own set in "
                "a YAML instead"
            )
