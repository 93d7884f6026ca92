"""Mask files as they are stored: label values, foreground masks, and what is wrong with them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import TTDError


def read_index(path: Path) -> np.ndarray:
    """An index mask (palette or grey PNG), uint8 [H, W].

    Raises TTDError naming the file: missing, unreadable, colour-coded, or with values above 255
    (instance ids).
    """
    image = _decoded(path)
    values = np.asarray(image)
    if values.ndim == 3:
        colours = _colours(image, values)
        if (colours != colours[..., :1]).any():
            raise TTDError(
                f"{path}: colour-coded ({image.mode}); wanted one label value a pixel, as in the release's "
                "palette or grey masks (colours are not unique in these sets)"
            )
        values = colours[..., 0]
    if values.dtype.kind == "f":
        raise TTDError(f"{path}: a floating-point image; wanted 8-bit label values")
    if (
        values.dtype not in (np.uint8, np.bool_)
        and values.size
        and (values.min() < 0 or values.max() > 255)
    ):
        raise TTDError(
            f"{path}: values up to {values.max()}: looks like instance ids; wanted 8-bit label values"
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def read_foreground(path: Path) -> np.ndarray:
    """A foreground mask, bool [H, W]: what is not 0. TTDError when it is missing or unreadable."""
    return read_values(path) != 0


def read_values(path: Path) -> np.ndarray:
    """The values of a foreground mask [H, W], the highest of a pixel's colours. TTDError: missing or unreadable."""
    image = _decoded(path)
    values = np.asarray(image)
    return _colours(image, values).max(axis=-1) if values.ndim == 3 else values


def wrong_foreground(values: np.ndarray) -> str:
    """What is wrong with a predicted foreground mask [H, W], "" for nothing: it has 0 and 255, or 0 and 1."""
    unknown = sorted(set(np.unique(values).tolist()) - {0, 1, 255})
    return f"value {listed(unknown)}, but a mask of a caption has 0 and 255" if unknown else ""


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
            reason = (
                " ".join(str(getattr(error, "strerror", None) or error).split())[:100]
                or type(error).__name__
            )
            raise TTDError(f"{path}: cannot be read as a mask ({reason})") from None


def _colours(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """Values [H, W, C] of an image without its transparency."""
    return values[..., : 1 if image.mode in ("LA", "PA") else 3]


def listed(values: list[int], shown: int = 4) -> str:
    """The first few values as text."""
    return ", ".join(str(value) for value in values[:shown]) + ", ..." * (len(values) > shown)
