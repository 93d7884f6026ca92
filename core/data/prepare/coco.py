"""COCO's objects to label maps: every object in its class, smaller objects on top."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ..labels.dataset_yaml import load_shipped
from ..labels.rle import Mask, decode, fill_polygons
from .coco_json import Annotation, Instances, parse_instances


def read_instances(path: Path) -> Instances:
    """COCO's instances json, checked (see `parse_instances`). TTDError."""
    classes = load_shipped("COCO2014")["classes"]
    names = {number: classes[label - 1] for number, label in labels_by_category().items()}
    return parse_instances(path, names)


@lru_cache(maxsize=1)
def labels_by_category() -> dict[int, int]:
    """COCO's category ids (1-90) -> labels 1-80."""
    raw_labels = load_shipped("COCO2014")["raw"]  # of the pixel maps: category - 1
    return {raw + 1: label for raw, label in raw_labels.items() if raw < 91 and 0 < label < 255}


def draw_instances(
    annotations: Sequence[Annotation], height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Label map uint8 [H, W]: 0 background, 1-80 the classes.

    Objects are drawn from the one with the most pixels to the one with the fewest, so that a
    person's tie is not hidden by the person; equal ones in the order of their ids. Crowds are drawn
    like any other object. TTDError naming the annotation: a mask of another size, damaged runs.
    """
    table = labels_by_category()
    drawn = [(item, _mask(item, height, width)) for item in annotations]
    drawn.sort(key=lambda pair: (-np.count_nonzero(pair[1]), pair[0].id))
    labels = np.zeros((height, width), np.uint8)
    for item, mask in drawn:
        labels[mask] = table[item.category]
    return labels


def _mask(annotation: Annotation, height: int, width: int) -> Mask:
    """One object, bool [H, W], from polygons or run lengths."""
    shape = annotation.shape
    if isinstance(shape, list):
        return fill_polygons(shape, height, width)
    size = tuple(int(side) for side in shape["size"])
    if size != (height, width):  # before anything of that size is made
        raise TTDError(
            f"annotation {annotation.id}: a mask of {size} for an image of {(height, width)}"
        )
    try:
        return decode(shape | {"size": size})
    except TTDError as error:
        raise TTDError(f"annotation {annotation.id}: {error}") from None
