"""Label maps of a data set: values in the range that the set has, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from ..errors import TTDError
from ..utils.shown import beginning
from .dataset_yaml import IGNORED, NAMES
from .datasets import Dataset, Item
from .mask_files import SHOWN, Labels, read_index

QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
FEWEST = 8  # masks from which on instances can be told from classes


def read_truth(dataset: Dataset, item: Item) -> Labels:
    """The true labels of an image, uint8 [H, W].

    They are values of `dataset.label_values`, and 255 where nothing is scored.
    Raises TTDError: no mask, unreadable, or a value that the set does not have.
    """
    if item.mask is None:
        raise TTDError(f"{dataset.masks or dataset.images}: no mask for {item.id}")
    labels = read_index(item.mask)
    ignored = list(ignored_values(dataset))
    if unknown := _unknown(labels, (*dataset.label_values, *ignored)):
        raise TTDError(
            f"{item.mask}: label {beginning(unknown, SHOWN)}, "
            f"but {dataset.name} has {label_range(dataset)}; {_hint(dataset)}"
        )
    table = np.arange(256, dtype=np.uint8)
    table[ignored] = IGNORED
    return np.take(table, labels)


def wrong_labels(dataset: Dataset, labels: Labels) -> str:
    """What is wrong with predicted labels uint8 [H, W], "" for nothing.

    They must be values of the set, or 255. A value that the truth ignores means that no label was
    predicted.
    """
    unknown = _unknown(labels, (*dataset.label_values, *ignored_values(dataset), IGNORED))
    if not unknown:
        return ""
    return f"label {beginning(unknown, SHOWN)}, but {dataset.name} has {label_range(dataset)}"


def ignored_values(dataset: Dataset) -> tuple[int, ...]:
    """Label values of the truth that are never scored."""
    return (dataset.ignore, 0) if dataset.zero_ignored else (dataset.ignore,)


def label_range(dataset: Dataset) -> str:
    """`0-20 and 255 (ignored)`."""
    values = dataset.label_values
    ignored = " and ".join(str(value) for value in sorted(ignored_values(dataset)))
    return f"{min(values)}-{max(values)} and {ignored} (ignored)"


def check(dataset: Dataset, limit: int | None = None) -> list[str]:
    """What is wrong with the masks of a set, a line each; [] for nothing.

    limit: look at so many images only, evenly spread over the set.
    """
    items = [item for item in dataset.items() if item.mask is not None]
    if limit is not None and len(items) > limit:
        items = [items[i * len(items) // limit] for i in range(limit)]
    lines, seen = [], []
    for item in items:
        try:
            truth = read_truth(dataset, item)
        except TTDError as error:
            lines.append(str(error))
            continue
        seen.append(np.unique(truth[truth != IGNORED]))
        lines += _wrong_size(item, truth)
    if _looks_like_instances(dataset, seen):
        lines.append(
            f"{dataset.masks}: labels count up from 1 in every mask: "
            "this looks like instance masks, not classes"
        )
    return lines


def _wrong_size(item: Item, truth: Labels) -> list[str]:
    """A line where mask [H, W] and image differ in size; [] where they do not."""
    height, width = truth.shape
    size = _image_size(item.image)
    if size is None or size == (width, height):
        return []
    return [f"{item.mask}: {width}x{height}, but its image has {size[0]}x{size[1]}"]


def _unknown(labels: Labels, allowed: tuple[int, ...]) -> list[int]:
    """Values of labels uint8 [H, W] that are not allowed."""
    # Deleting the allowed bytes is five times faster than counting all values.
    return sorted(set(labels.tobytes().translate(None, bytes(allowed))))


def _hint(dataset: Dataset) -> str:
    if dataset.name in NAMES:
        tool = f"tools/prepare_dataset.py {dataset.name}"
        return f"raw masks of the release? convert them with {tool}"
    return "check classes, background and ignore in the YAML"


def _image_size(path: Path) -> tuple[int, int] | None:
    """(W, H) of an image from its header, turned as EXIF asks; None when it cannot be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # decoders raise nearly any type on damaged bytes; reading will say so
        return None
    return (height, width) if orientation in QUARTER_TURNS else (width, height)


def _looks_like_instances(dataset: Dataset, seen: list[Labels]) -> bool:
    """Whether the masks number their objects 1, 2, 3, ...: `seen` are the labels of each mask.

    Classes would leave gaps in one of eight masks.
    """
    if dataset.first_label != 1 or len(dataset.classes) <= 4:
        return False
    numbered = [values[values > 0] for values in seen if values.any()]
    runs = [np.array_equal(values, np.arange(1, len(values) + 1)) for values in numbered]
    several = any(len(values) > 1 for values in numbered)
    return len(runs) >= FEWEST and all(runs) and several
