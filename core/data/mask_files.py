"""Mask files as they are stored: label values, foreground masks, and what is wrong with them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import TTDError
from ..utils.shown import beginning

Labels: TypeAlias = npt.NDArray[np.uint8]
Values: TypeAlias = npt.NDArray[Any]  # as a file stores them
SHOWN = 4  # values named in a message


def read_index(path: Path) -> Labels:
    """An index mask (palette or grey PNG), uint8 [H, W].

    Raises TTDError naming the file: missing, unreadable, colour-coded, or with values above 255
    (instance ids).
    """
    image = _decoded(path)
    values = np.asarray(image)
    if values.ndim == 3:
        values = _single_channel(image, values, path)
    if values.dtype.kind == "f":
        raise TTDError(f"{path}: a floating-point image; wanted 8-bit label values")
    if values.size and (values.min() < 0 or values.max() > 255):
        raise TTDError(
            f"{path}: values up to {values.max()}: looks like instance ids; "
            "wanted 8-bit label values"
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def read_foreground(path: Path) -> npt.NDArray[np.bool_]:
    """A foreground mask, bool [H, W]: what is not 0. TTDError when it is missing or unreadable."""
    return np.not_equal(read_values(path), 0)


def read_values(path: Path) -> Values:
    """The values of a foreground mask [H, W]; of a colour image, the highest of each pixel.

    TTDError when it is missing or unreadable.
    """
    image = _decoded(path)
    values: Values = np.asarray(image)
    if values.ndim == 3:
        values = _colours(image, values).max(axis=-1)
    return values


def wrong_foreground(values: Values) -> str:
    """What is wrong with a predicted foreground mask [H, W], "" for nothing.

    Its values must be 0 and 255, or 0 and 1.
    """
    unknown = sorted(set(np.unique(values).tolist()) - {0, 1, 255})
    if not unknown:
        return ""
    return f"value {beginning(unknown, SHOWN)}, but a mask of a caption has 0 and 255"


def _single_channel(image: Image.Image, values: Values, path: Path) -> Values:
    """[H, W, C] of equal colours -> [H, W]. TTDError where they differ."""
    colours = _colours(image, values)
    if (colours != colours[..., :1]).any():
        raise TTDError(
            f"{path}: colour-coded ({image.mode}); wanted one label value a pixel, as in the "
            "release's palette or grey masks (colours are not unique in these sets)"
        )
    return colours[..., 0]


def _decoded(path: Path) -> Image.Image:
    """The decoded file, as it is stored; TTDError in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                image.load()
                return image
        except FileNotFoundError:
            raise TTDError(f"{path}: no such file") from None
        except Exception as error:  # decoders raise nearly any type on damaged bytes
            text = str(getattr(error, "strerror", None) or error)
            reason = " ".join(text.split())[:100] or type(error).__name__
            raise TTDError(f"{path}: cannot be read as a mask ({reason})") from None


def _colours(image: Image.Image, values: Values) -> Values:
    """Values [H, W, C] of an image without its transparency."""
    if image.mode in ("LA", "PA"):
        return values[..., :1]
    return values[..., :3]
