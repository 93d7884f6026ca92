"""Label maps of a data set: values in the range that the set has, or one line that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ...utils.shown import beginning
from .dataset_yaml import IGNORED, NAMES
from .datasets import Dataset, Item
from .mask_files import SHOWN, Labels, StoredLabels, read_stored
from .turned import turned_mask, upright_size

Counts: TypeAlias = npt.NDArray[np.int64]

SMALL, MUCH = 4, 0.1  # classes of a set, and share of pixels, from which on 255 looks like a class
FEWEST = 8  # masks from which on instances can be told from classes


def read_truth(dataset: Dataset, item: Item) -> Labels:
    """The true labels of an image, uint8 [H, W].

    They are values of `dataset.label_values`, and 255 where nothing is scored.
    They lie on the upright image (core/data/labels/turned.py).
    Errors: TTDError: no mask, unreadable, a value that the set does not have, or a palette that
        says other labels than the values.
    """
    if item.mask is None:
        raise TTDError(f"{dataset.masks or dataset.images}: no mask for {item.id}")
    stored = read_stored(item.mask)
    labels = stored.values
    ignored = list(ignored_values(dataset))
    if unknown := _unknown(labels, (*dataset.label_values, *ignored)):
        raise TTDError(
            f"{item.mask}: label {beginning(unknown, SHOWN)}, "
            f"but {dataset.name} has {label_range(dataset)}; {_hint(dataset)}"
        )
    if reason := wrong_colours(dataset, stored):
        raise TTDError(f"{item.mask}: {reason}")
    labels = turned_mask(labels, item.image, dataset.masks_drawn, item.mask)
    table = np.arange(256, dtype=np.uint8)
    table[ignored] = IGNORED
    return np.take(table, labels)


def read_predicted(dataset: Dataset, path: Path) -> Labels:
    """Predicted labels uint8 [H, W]. TTDError: unreadable, or a reordered palette."""
    stored = read_stored(path)
    if reason := wrong_colours(dataset, stored):
        raise TTDError(f"{path}: {reason}")
    return stored.values


def wrong_counts(dataset: Dataset, truth: Counts, predicted: Counts) -> str:
    """What the label values of all masks together say against scoring them; "" for nothing.

    truth, predicted: pixels of each value, int64 [256]. Foreground stored as 255, the value of what
    is not scored, would otherwise score 100 %.
    """
    ignored, total = truth[IGNORED], truth.sum()
    absent = [
        name
        for name, label in zip(dataset.label_names, dataset.label_values, strict=True)
        if not truth[label]
    ]
    few = len(absent) >= len(dataset.label_values) - 1
    small = dataset.name not in NAMES and len(dataset.classes) <= SMALL
    if ignored and absent and (few or (small and ignored >= MUCH * total)):
        return (
            f"no true mask has a pixel of '{absent[-1]}', while 255, which is not scored, covers "
            f"{100 * ignored / total:.1f}% of them. Is 255 a class? Write its label instead "
            f"(0/255 -> 0/1), or leave '{absent[-1]}' out of the classes; another value that is "
            "not scored is `ignore` in the YAML"
        )
    labels = [label for label in dataset.label_values if label or not dataset.background]
    if predicted[IGNORED] and truth[labels].sum() and not predicted[labels].sum():
        return (
            "the predictions hold no class, but 255, which means that no label was predicted; "
            "write the labels of the classes instead (0/255 -> 0/1)"
        )
    return ""


def wrong_colours(dataset: Dataset, stored: StoredLabels) -> str:
    """What is wrong with the palette of an index mask of a set whose colours are known.

    "" where it is right, where there is none, and where its colours are not the set's at all (the
    values count then). Optimisers of PNGs reorder palettes: all colours are then the set's, but
    other labels' than the values say.
    """
    if stored.colours is None or not dataset.colours_known:
        return ""
    labels = sorted({0, IGNORED, *dataset.label_values})
    names = {tuple(dataset.palette[label].tolist()): label for label in reversed(labels)}
    used = [value for value in np.unique(stored.values).tolist() if value < len(stored.colours)]
    own = {value: tuple(stored.colours[value].tolist()) for value in used}
    other = [value for value in used if own[value] != tuple(dataset.palette[value].tolist())]
    if not other or not names.keys() >= set(own.values()):
        return ""
    value, label = other[0], names[own[other[0]]]
    return (
        f"value {value} has the colour of label {label}: the palette was reordered, so the values "
        "are no labels; write the mask again with the set's palette"
    )


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
    size = upright_size(item.image)
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
