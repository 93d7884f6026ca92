"""Segmentation sets described in YAML: the shipped ones in configs/datasets/ and a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import TTDError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "datasets"
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
USER_KEYS = ("name", "images", "masks", "classes", "background", "ignore", "bg", "palette")
SHIPPED_KEYS = (
    "name",
    "folder",
    "expected",
    "classes",
    "background",
    "ignore",
    "bg",
    "palette",
    "raw",
)
# What tools/make_world.py notes in world.yaml about how the world was made. Allowed where
# `made_with` is, and nowhere else, so that a misspelt key of a user's set stays an error.
GENERATOR_KEYS = ("made_with", "colours", "scenes", "measured", "unseen_pairs", "unseen_ids")


def load_shipped(name: str) -> dict[str, Any]:
    """configs/datasets/NAME.yaml, its keys checked. TTDError that lists the names for any other name."""
    if name not in NAMES:
        raise TTDError(
            f"{name}: no such set; there are {', '.join(NAMES)}, or name a YAML file of your own"
        )
    return _load(CONFIGS / f"{name}.yaml", SHIPPED_KEYS)


def load_user(path: Path) -> dict[str, Any]:
    """A user's YAML, its keys checked. TTDError: not there, not YAML, unknown keys, no images or classes."""
    content = _load(path, USER_KEYS)
    for key in ("images", "classes"):
        if not content.get(key):
            raise TTDError(f"{path}: no '{key}'; a set has {', '.join(USER_KEYS)}")
    for key in ("name", "images", "masks"):
        if not isinstance(content.get(key, ""), str) and not (
            key == "masks" and content[key] is None
        ):
            raise TTDError(f"{path}: {key}: {content[key]!r} is no text")
    return content


def _load(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = yaml.load(
            path.read_text(encoding="utf-8-sig"),
            Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
        )
    except OSError as error:
        raise TTDError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TTDError(f"{path}: not YAML ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(content, dict):
        raise TTDError(f"{path}: not a mapping; a set has {', '.join(keys)}")
    allowed = keys + GENERATOR_KEYS * ("made_with" in content)
    if unknown := [str(key) for key in content if key not in allowed]:
        raise TTDError(f"{path}: unknown {', '.join(unknown)}; a set has {', '.join(keys)}")
    return content


def parse_labels(content: dict[str, Any], where: str | Path) -> dict[str, Any]:
    """The label side of a description -> `classes, background, first_label, ignore, zero_ignored` of a Dataset.

    background: 0 or true = label 0 is the background and the classes follow from 1; false, null or
    none given = label 0 is the first class. ignore: one value, or [0, value] where label 0 is
    ignored as well (classes follow from 1). Raises TTDError for anything else, for repeated classes
    and for more than 254.
    """
    classes = _classes(content["classes"], where)
    background = _background(content.get("background"), where)
    if background and classes[0].casefold() == "background":
        classes = classes[1:]
    ignore, zero_ignored = _ignore(content.get("ignore", 255), where)
    first = int(background or zero_ignored)
    if background and zero_ignored:
        raise TTDError(
            f"{where}: label 0 is the background and ignored; set background: false, or ignore: {ignore}"
        )
    if not classes or first + len(classes) > 255:
        raise TTDError(
            f"{where}: {len(classes)} classes; 1 to 254 can be told apart in 8-bit masks"
        )
    if first <= ignore < first + len(classes):
        raise TTDError(
            f"{where}: ignore: {ignore} is the label of '{classes[ignore - first]}'; use 255"
        )
    return {
        "classes": classes,
        "background": background,
        "first_label": first,
        "ignore": ignore,
        "zero_ignored": zero_ignored,
    }


def parse_background_threshold(content: dict[str, Any], where: str | Path) -> float:
    """The default background threshold in [0, 1], 0.40 where none is given."""
    background_threshold = content.get("bg", 0.4)
    if (
        isinstance(background_threshold, bool)
        or not isinstance(background_threshold, int | float)
        or not 0 <= background_threshold <= 1
    ):
        raise TTDError(f"{where}: bg: {background_threshold!r} is no number from 0 to 1")
    return float(background_threshold)


def parse_palette(content: dict[str, Any], first_label: int, where: str | Path) -> np.ndarray:
    """Colours uint8 [256, 3] by label value: the VOC map, with `palette` [[r, g, b], ...] for the classes if given."""
    palette = voc_palette()
    if (given := content.get("palette")) is None:
        return palette
    try:
        colours = np.array(given, dtype=np.int64).reshape(-1, 3)
    except (ValueError, TypeError):
        colours = np.full((1, 3), -1)
    if (
        colours.size == 0
        or colours.min() < 0
        or colours.max() > 255
        or len(colours) + first_label > 255
    ):
        raise TTDError(f"{where}: palette is no list of [red, green, blue] from 0 to 255")
    palette[first_label : first_label + len(colours)] = colours
    return palette


def voc_palette() -> np.ndarray:
    """PASCAL VOC's colours uint8 [256, 3]: bits 0, 3, 6 of a label are the top bits of red, 1, 4, 7 of green, ..."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for bit in range(8):
            if 3 * bit + channel < 8:
                palette[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                    np.uint8
                )
    return palette


def _classes(value: Any, where: str | Path) -> tuple[str, ...]:
    """Names as they stand; numbers that YAML made of names are refused, since 'on' or 07 would change silently."""
    if not isinstance(value, list) or not all(
        isinstance(name, str) and name.strip() for name in value
    ):
        raise TTDError(
            f"{where}: classes must be a list of names; put those in quotes that YAML takes for numbers or "
            'switches ("1", "on")'
        )
    if any(not part.strip() for name in value for part in name.split("|")):
        raise TTDError(f"{where}: a class has an empty synonym; write person|human|man")
    if repeated := sorted({name for name in value if value.count(name) > 1}):
        raise TTDError(f"{where}: class '{repeated[0]}' is listed twice")
    return tuple(value)


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
    values = value if isinstance(value, list) else [255 if value is None else value]
    whole = all(
        isinstance(label, int) and not isinstance(label, bool) and 0 <= label <= 255
        for label in values
    )
    others = [label for label in values if label != 0] if whole else [0, 0]
    if not whole or len(others) > 1 or not values:
        raise TTDError(f"{where}: ignore: {value!r}; give one value from 1 to 255, or [0, 255]")
    return (others or [255])[0], 0 in values
