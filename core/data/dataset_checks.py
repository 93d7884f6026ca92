"""Label maps of a data set: values in the range that the set has, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import TTDError
from .dataset_yaml import NAMES
from .datasets import Dataset, Item
from .mask_files import listed, read_index

IGNORED = 255  # what every ignored label is called after reading
ORIENTATION = 0x0112  # EXIF: values from 5 on turn the image by a quarter


def read_truth(dataset: Dataset, item: Item) -> np.ndarray:
    """The true labels of an image, uint8 [H, W]: values of `dataset.label_values`, 255 where nothing is scored.

    Raises TTDError: no mask, unreadable, or a value that the set does not have.
    """
    if item.mask is None:
        raise TTDError(f"{dataset.masks or dataset.images}: no mask for {item.id}")
    labels = read_index(item.mask)
    if unknown := _unknown(labels, (*dataset.label_values, *ignored_values(dataset))):
        raise TTDError(
            f"{item.mask}: label {listed(unknown)}, but {dataset.name} has {label_range(dataset)}; "
            f"{_hint(dataset)}"
        )
    table = np.arange(256, dtype=np.uint8)
    table[list(ignored_values(dataset))] = IGNORED
    return np.take(table, labels)


def wrong_labels(dataset: Dataset, labels: np.ndarray) -> str:
    """What is wrong with predicted labels uint8 [H, W], "" for nothing: they are values of the set, or 255.

    A value that the truth ignores means that no label was predicted.
    """
    unknown = _unknown(labels, (*dataset.label_values, *ignored_values(dataset), IGNORED))
    return (
        f"label {listed(unknown)}, but {dataset.name} has {label_range(dataset)}" if unknown else ""
    )


def ignored_values(dataset: Dataset) -> tuple[int, ...]:
    """Label values of the truth that are never scored."""
    return (dataset.ignore, *(0,) * dataset.zero_ignored)


def label_range(dataset: Dataset) -> str:
    """`0-20 and 255 (ignored)`."""
    values = dataset.label_values
    ignored = " and ".join(str(value) for value in sorted(ignored_values(dataset)))
    return f"{min(values)}-{max(values)} and {ignored} (ignored)"


def check(dataset: Dataset, limit: int | None = None) -> list[str]:
    """What is wrong with the masks of a set, a line each; [] for nothing. `limit`: only so many images, evenly."""
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
        if (size := _picture_size(item.image)) not in (None, truth.shape[::-1]):
            lines.append(
                f"{item.mask}: {truth.shape[1]}x{truth.shape[0]}, but its image has {size[0]}x{size[1]}"
            )
    return lines + _instances(dataset, seen)


def _unknown(labels: np.ndarray, allowed: tuple[int, ...]) -> list[int]:
    """Values of labels uint8 [H, W] that are not allowed."""
    return sorted(
        set(labels.tobytes().translate(None, bytes(allowed)))
    )  # five times faster than counting all of them


def _hint(dataset: Dataset) -> str:
    if dataset.name in NAMES:
        return (
            f"raw masks of the release? convert them with tools/prepare_dataset.py {dataset.name}"
        )
    return "check classes, background and ignore in the YAML"


def _picture_size(path: Path) -> tuple[int, int] | None:
    """(W, H) from the header, turned as EXIF asks; None when the image cannot be read (which reading will say)."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return image.size[::-1] if turned else image.size
    except Exception:  # see _decoded
        return None


def _instances(dataset: Dataset, seen: list[np.ndarray]) -> list[str]:
    """Objects numbered 1, 2, 3 in every mask are instances; classes would leave gaps in one of eight masks."""
    numbered = [values[values > 0] for values in seen if values.any()]
    runs = [np.array_equal(values, np.arange(1, len(values) + 1)) for values in numbered]
    several = any(len(values) > 1 for values in numbered)
    if (
        dataset.first_label == 1
        and len(dataset.classes) > 4
        and len(runs) >= 8
        and all(runs)
        and several
    ):
        return [
            f"{dataset.masks}: labels count up from 1 in every mask: this looks like instance masks, not classes"
        ]
    return []
