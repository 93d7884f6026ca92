"""Segmentation sets described in YAML: those in configs/datasets/ and a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ...utils.config import read_yaml
from ...utils.shipped import shipped
from .class_names import parse_classes

Palette: TypeAlias = npt.NDArray[np.uint8]  # [256, 3] RGB by label value

CONFIGS = shipped("configs/datasets")
NAMES = (
    "VOC2012",
    "COCO2014",
    "ADE2016",
    "Cityscapes",
    "COCO-Stuff",
    "PascalContext",
    "VOC20",
    "Context59",
    "World",
)
LABEL_KEYS = (
    "classes",
    "background",
    "ignore",
    "bg",
    "palette",
    "masks_drawn",
)  # what any description may have
USER_KEYS = ("name", "images", "masks", *LABEL_KEYS)
SHIPPED_KEYS = ("name", "folder", "expected", *LABEL_KEYS, "raw")
# What tools/make_world.py notes in world.yaml about how the world was made. Allowed where
# `made_with` is, and nowhere else, so that a misspelt key of a user's set stays an error.
GENERATOR_KEYS = ("made_with", "colours", "scenes", "measured", "unseen_pairs", "unseen_ids")

IGNORED = 255  # the label value of what is not scored, after reading
DEFAULT_THRESHOLD = 0.4
DRAWN = ("stored", "upright")


def load_shipped(name: str) -> dict[str, Any]:
    """configs/datasets/NAME.yaml, its keys checked. TTDError that lists the names for another."""
    if name not in NAMES:
        raise TTDError(
            f"{name}: no such set; there are {', '.join(NAMES)}, or name a YAML file of your own"
        )
    return _load(CONFIGS / f"{name}.yaml", SHIPPED_KEYS)


def load_user(path: Path) -> dict[str, Any]:
    """A user's YAML, its keys checked.

    TTDError: not there, not YAML, unknown keys, no images or classes, paths that are no text.
    """
    content = _load(path, USER_KEYS)
    for key in ("images", "classes"):
        if not content.get(key):
            raise TTDError(f"{path}: no '{key}'; a set has {', '.join(USER_KEYS)}")
    given = {key: content[key] for key in ("name", "images", "masks") if key in content}
    if given.get("masks", "") is None:  # `masks:` with nothing behind it
        del given["masks"]
    for key, value in given.items():
        if not isinstance(value, str):
            raise TTDError(f"{path}: {key}: {value!r} is no text")
    return content


def _load(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    content = read_yaml(path, "check the path")
    allowed = keys + GENERATOR_KEYS if "made_with" in content else keys
    if unknown := [str(key) for key in content if key not in allowed]:
        raise TTDError(f"{path}: unknown {', '.join(unknown)}; a set has {', '.join(keys)}")
    return content


def parse_labels(content: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """The label side of a description: the fields of `Dataset` that say what labels mean.

    They are classes, background, first_label, ignore, zero_ignored.
    background: 0 or true = label 0 is the background and the classes follow from 1; false, null or
    none given = label 0 is the first class. ignore: one value, or [0, value] where label 0 is
    ignored as well (classes follow from 1). Raises TTDError for anything else, for repeated classes
    and for more than 254.
    """
    background = _background(content.get("background"), where)
    classes = parse_classes(content["classes"], background, where)
    ignore, zero_ignored = _ignore(content.get("ignore", IGNORED), where)
    if background and zero_ignored:
        raise TTDError(
            f"{where}: label 0 is the background and ignored; "
            f"set background: false, or ignore: {ignore}"
        )
    first = 1 if background or zero_ignored else 0
    if not classes or first + len(classes) > 255:
        raise TTDError(
            f"{where}: {len(classes)} classes; 1 to 254 can be told apart in 8-bit masks"
        )
    if first <= ignore < first + len(classes):
        taken = classes[ignore - first]
        raise TTDError(f"{where}: ignore: {ignore} is the label of '{taken}'; use 255")
    return {
        "classes": classes,
        "background": background,
        "first_label": first,
        "ignore": ignore,
        "zero_ignored": zero_ignored,
    }


def parse_background_threshold(content: Mapping[str, Any], where: str | Path) -> float:
    """The default background threshold in [0, 1], 0.40 where none is given. TTDError otherwise."""
    value = content.get("bg", DEFAULT_THRESHOLD)
    if not _is_number(value) or not 0 <= value <= 1:
        raise TTDError(f"{where}: bg: {value!r} is no number from 0 to 1")
    return float(value)


def parse_drawn(content: Mapping[str, Any], where: str | Path) -> str | None:
    """On which pixels the masks were drawn: "stored", "upright", or None where it is not said.

    It matters for images that an EXIF block turns. TTDError for another value.
    """
    value = content.get("masks_drawn")
    if value is not None and value not in DRAWN:
        raise TTDError(
            f"{where}: masks_drawn: {value!r}; give stored (on the pixels as the file has them) "
            "or upright (as viewers turn them)"
        )
    return value


def parse_palette(content: Mapping[str, Any], first_label: int, where: str | Path) -> Palette:
    """Colours uint8 [256, 3] by label value.

    PASCAL VOC's, with `palette` [[r, g, b], ...] in place of the classes' where it is given.
    TTDError for a palette that is no list of colours.
    """
    palette = voc_palette()
    if (given := content.get("palette")) is None:
        return palette
    try:
        colours = np.array(given, dtype=np.int64).reshape(-1, 3)
    except (ValueError, TypeError, OverflowError):
        colours = np.empty((0, 3), np.int64)
    inside = ((colours >= 0) & (colours <= 255)).all()
    if colours.size == 0 or not inside or len(colours) + first_label > 255:
        raise TTDError(f"{where}: palette is no list of [red, green, blue] from 0 to 255")
    palette[first_label : first_label + len(colours)] = colours
    return palette


def voc_palette() -> Palette:
    """PASCAL VOC's colours uint8 [256, 3] by label value.

    Bits 0, 3, 6 of a label are the top bits of red, highest first; bits 1, 4, 7 those of green;
    bits 2, 5 those of blue.
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        place, channel = divmod(bit, 3)
        palette[:, channel] |= ((labels >> bit & 1) << (7 - place)).astype(np.uint8)
    return palette


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _background(value: Any, where: str | Path) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if value == 0 and isinstance(value, int):
        return True
    raise TTDError(
        f"{where}: background: {value!r}; give 0 or true (label 0 is the background), or false"
    )


def _ignore(value: Any, where: str | Path) -> tuple[int, bool]:
    """(ignored label value, whether 0 is ignored as well)."""
    values = value if isinstance(value, list) else [value]
    if value is None:
        values = [IGNORED]
    valid = values and all(type(label) is int and 0 <= label <= 255 for label in values)
    others = [label for label in values if label != 0]
    if not valid or len(others) > 1:
        raise TTDError(f"{where}: ignore: {value!r}; give one value from 1 to 255, or [0, 255]")
    return (others or [IGNORED])[0], 0 in values
