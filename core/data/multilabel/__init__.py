"""Images with the classes that they show: official releases, published lists, your own files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import TTDError
from .coco import read_coco
from .label_sets import LabelSet
from .nus import read_nus
from .voc import read_voc

SETS: dict[str, Callable[[str | Path, str], LabelSet]] = {
    "voc07": read_voc,
    "voc12": read_voc,
    "coco14": read_coco,
    "nus": read_nus,
}


def read_set(key: str, root: str | Path) -> LabelSet:
    """A release by its short name. TTDError: an unknown name, and what the reader says."""
    if key not in SETS:
        raise TTDError(f"unknown set {key!r}: choose one of {', '.join(SETS)}")
    return SETS[key](root, key)
