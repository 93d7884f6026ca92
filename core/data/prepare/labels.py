"""Label maps of the releases to the label values of the readers."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import TTDError
from ..dataset_yaml import load_shipped, parse_labels, parse_palette
from ..mask_files import read_index

NONE = 65535  # in a table: a value that must not occur
RAW_VALUES = 1 << 16


@lru_cache(maxsize=16)
def raw_table(name: str, other: int = NONE) -> np.ndarray:
    """uint16 [65536]: raw value -> label of the set, from configs/datasets/NAME.yaml; `other` for unlisted values."""
    table = np.full(RAW_VALUES, other, np.uint16)
    for raw, label in load_shipped(name)["raw"].items():
        table[raw] = label
    table[255] = 255 if table[255] == NONE else table[255]
    return table


@lru_cache(maxsize=16)
def identity_table(name: str) -> np.ndarray:
    """uint16 [65536]: the values of the set stay as they are, with 255 and ignored ones; all others must not occur."""
    content = load_shipped(name)
    labels = parse_labels(content, name)
    allowed = [0] * (labels["background"] or labels["zero_ignored"])
    allowed += [*range(labels["first_label"], labels["first_label"] + len(labels["classes"])), 255]
    table = np.full(RAW_VALUES, NONE, np.uint16)
    table[allowed] = allowed
    return table


def translate(raw: np.ndarray, table: np.ndarray, where: Path) -> np.ndarray:
    """Raw values [H, W] -> uint8 [H, W] by a table. TTDError for values that must not occur."""
    labels = table[raw]
    if (labels == NONE).any():
        unknown = np.unique(raw[labels == NONE])
        raise TTDError(
            f"{where}: value {', '.join(map(str, unknown[:4].tolist()))} is none of this release; is it the "
            "right one, and not converted already?"
        )
    return labels.astype(np.uint8)


def translated_png(path: Path, name: str, table: np.ndarray) -> bytes:
    """A mask file of the release as the PNG of the set `name`."""
    return to_png(translate(read_index(path), table, path), name)


def to_png(labels: np.ndarray, name: str) -> bytes:
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


def read_label_mat(path: Path) -> np.ndarray:
    """The array `LabelMap` of a MATLAB file (PASCAL Context's 459 classes), integers [H, W].

    Needs scipy, which nothing else here does. Raises TTDError without it and for files without such
    an array.
    """
    try:
        from scipy.io import loadmat
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
    return labels.astype(np.int64)
