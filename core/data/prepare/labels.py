"""Label maps of the releases to the label values of the readers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import TTDError
from ...utils.shown import beginning
from ..labels.dataset_yaml import IGNORED, load_shipped, parse_labels, parse_palette
from ..labels.mask_files import SHOWN, Labels, read_index

Table: TypeAlias = npt.NDArray[np.uint16]  # [65536]: label of each raw value
Raw: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.int64]

NONE = 65535  # in a table: a value that must not occur
RAW_VALUES = 1 << 16
NO_255 = ("ADE2016", "Cityscapes")  # annotations of 0-150, labelIds of 0-33
LOOKED_AT = 100


@lru_cache(maxsize=16)
def raw_table(name: str, other: int = NONE) -> Table:
    """uint16 [65536]: raw value -> label of the set, from `raw` in configs/datasets/NAME.yaml.

    other: label of values that are not listed; 255 stays ignored where it is not listed.
    """
    table = np.full(RAW_VALUES, other, np.uint16)
    for raw, label in load_shipped(name)["raw"].items():
        table[raw] = label
    if table[IGNORED] == NONE and name not in NO_255:
        table[IGNORED] = IGNORED
    return table


@lru_cache(maxsize=16)
def identity_table(name: str) -> Table:
    """uint16 [65536]: values of the set and ignored ones stay; all others must not occur."""
    labels = parse_labels(load_shipped(name), name)
    first = labels["first_label"]
    allowed = [*range(first, first + len(labels["classes"]))]
    if name != "ADE2016":  # trainIds of Cityscapes hold 255
        allowed.append(IGNORED)
    if labels["background"] or labels["zero_ignored"]:
        allowed.append(0)
    table = np.full(RAW_VALUES, NONE, np.uint16)
    table[allowed] = allowed
    return table


def refuse_converted(name: str, masks: Sequence[Path]) -> None:
    """TTDError when masks of a release hold 255, which those of `NO_255` never do.

    They were converted already (detectron2's ADE20K, Cityscapes' trainIds under the names of
    labelIds), and a second conversion would shift every label. Looked at are `LOOKED_AT` masks,
    evenly spread: nearly every converted one holds 255.
    """
    present = [path for path in masks if path.is_file()]
    step = max(1, len(present) // LOOKED_AT)
    for path in present[::step]:
        try:
            values = read_index(path)
        except TTDError:  # said when it is converted
            continue
        if (values == IGNORED).any():
            raise TTDError(
                f"{path}: holds 255, which the {name} release never does: these labels were "
                "converted already; point --source at the release as it was downloaded"
            )


def translate(raw: Raw, table: Table, where: Path) -> Labels:
    """Raw values [H, W] -> uint8 [H, W] by a table. TTDError for values that must not occur."""
    labels: Labels | Table = table[raw]
    if (labels == NONE).any():
        unknown = np.unique(raw[labels == NONE]).tolist()
        raise TTDError(
            f"{where}: value {beginning(unknown, SHOWN)} is none of this release; "
            "is it the right one, and not converted already?"
        )
    return labels.astype(np.uint8)


def translated_png(path: Path, name: str, table: Table) -> bytes:
    """A mask file of the release as the PNG of the set `name`. TTDError: unreadable, odd values."""
    return to_png(translate(read_index(path), table, path), name)


def to_png(labels: Labels, name: str) -> bytes:
    """uint8 [H, W] as a palette PNG in the colours of the set `name`."""
    image = Image.fromarray(labels)
    image.putpalette(_palette(name))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=16)
def _palette(name: str) -> bytes:
    content = load_shipped(name)
    return parse_palette(content, parse_labels(content, name)["first_label"], name).tobytes()


def read_label_mat(path: Path) -> npt.NDArray[np.int64]:
    """The array `LabelMap` of a MATLAB file (PASCAL Context's 459 classes), integers [H, W].

    Needs scipy, which nothing else here does. Raises TTDError without it and for files without such
    an array.
    """
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]  # scipy has no types
    except ImportError:
        raise TTDError("PASCAL Context's .mat files need scipy: pip install scipy") from None
    try:
        labels = loadmat(path)["LabelMap"]
    except FileNotFoundError:
        raise TTDError(f"{path}: no such file") from None
    except Exception as error:  # scipy raises many types on damaged files
        raise TTDError(
            f"{path}: no LabelMap can be read from it ({' '.join(str(error).split())[:80]})"
        ) from None
    values: npt.NDArray[np.int64] = np.asarray(labels).astype(np.int64)
    return values
