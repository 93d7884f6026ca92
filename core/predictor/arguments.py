"""What callers pass to a `Predictor`, checked: every mistake is one TTDError."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..data.labels.class_names import parse_classes
from ..errors import TTDError
from ..maps.views import Views
from ..text.templates import TEMPLATES


def views_of(size: Any, scales: Any, hflip: Any) -> Views:
    """The views that were asked for. TTDError for values of another type."""
    if not is_whole(size):
        raise TTDError(f"image_size must be a whole number of pixels from 1, got {size!r}")
    if isinstance(scales, str) or not isinstance(scales, Iterable):
        raise TTDError(f"scales must be a list of numbers such as (1.0, 0.5), got {scales!r}")
    values = tuple(scales)
    if not all(map(is_number, values)):
        raise TTDError(f"scales must be numbers, got {list(values)}")
    return Views(int(size), tuple(float(value) for value in values), bool(hflip))


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number from 1."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and bool(value >= 1)


def is_number(value: Any) -> bool:
    """Whether a value is a number, be it NaN: ranges are checked by those who know them."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool)


def texts_of(texts: Any) -> list[str]:
    """Texts as a list. TTDError unless they are at least one string, none of them empty."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TTDError("texts must be a list of at least one string")
    listed = list(texts)
    if not listed:
        raise TTDError("texts must be a list of at least one string")
    for text in listed:
        if not isinstance(text, str) or not text.strip():
            raise TTDError(f"texts must be strings with something in them, got {text!r}")
    return [str(text) for text in listed]  # NumPy's strings too


def classes_of(classes: Any) -> list[str]:
    """Class names of a label map. TTDError for what cannot be told apart in it."""
    names = texts_of(classes)
    if len(names) > 254:
        raise TTDError(f"{len(names)} classes; 1 to 254 can be told apart in 8-bit label maps")
    if list(parse_classes(names, True, "classes")) != names:
        raise TTDError(f"classes: leave {names[0]!r} out; label 0 is the background")
    return names


def size_of(size: Any) -> tuple[int, int]:
    """(H, W) in pixels. TTDError for anything else."""
    if not isinstance(size, Sequence) or len(size) != 2 or not all(map(is_whole, size)):
        raise TTDError(f"size: {size!r}; give (height, width) in pixels, or None")
    return int(size[0]), int(size[1])


def checked_templates(templates: Any) -> str:
    """The name of a set of templates. TTDError that lists them for anything else."""
    if not isinstance(templates, str) or templates not in TEMPLATES:
        raise TTDError(f"templates: {templates!r}; choose one of {', '.join(TEMPLATES)}")
    return templates
