"""Colours of maps: heat maps, their overlay on an image, and the greys of what was rejected."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels: TypeAlias = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Maps: TypeAlias = npt.NDArray[np.float32]

INK = (214, 20, 30)  # of an overlay
OPACITY = 0.75  # of an overlay, at most
CLEAR, FULL = 0.25, 0.75  # values at which an overlay begins, and is as opaque as it gets
FADED = 0.5  # how far the image under an overlay goes to white, so that colours stand out
QUIET = (246, 120)  # greys of a rejected word's map, at 0 and at 1


def heat_colours(values: npt.ArrayLike) -> Pixels:
    """Values [...] in [0, 1] -> uint8 [..., 3]: 0 is blue, 0.5 white, 1 red, linear between.

    Values outside are clipped; NaN is 0.
    """
    v = _clipped(values)
    red, blue = np.minimum(1, 2 * v), np.minimum(1, 2 - 2 * v)
    colours = np.stack([red, np.minimum(red, blue), blue], axis=-1)
    return _rounded(255 * colours)


def quiet_colours(values: npt.ArrayLike) -> Pixels:
    """Values [...] in [0, 1] -> greys uint8 [..., 3], darker where higher; clipped as above."""
    low, high = QUIET
    grey = low + (high - low) * _clipped(values)
    return _rounded(np.repeat(grey[..., None], 3, axis=-1))


def overlay(image: Pixels, values: npt.ArrayLike, quiet: bool = False) -> Pixels:
    """A map [H, W] in [0, 1] over an image uint8 [H, W, 3] -> uint8 [H, W, 3].

    The opacity follows the value: none up to `CLEAR`, half at 0.5, all from `FULL` on, so that the
    image stays as it is where nothing was found. The image is in faded grey, or its own colours
    would be read as the map's. quiet: the map is grey, too.
    """
    grey = image.mean(axis=2, keepdims=True)
    base = 255 * FADED + (1 - FADED) * grey
    steps = np.clip((_clipped(values)[..., None] - CLEAR) / (FULL - CLEAR), 0, 1)
    alpha = OPACITY * steps**2 * (3 - 2 * steps)
    ink = np.full(3, QUIET[1] / 2) if quiet else np.array(INK)
    return _rounded(alpha * ink + (1 - alpha) * base)


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """uint8 [H, W, 3] -> [h, w, 3]: bilinear when it grows, mean of the pixels when it shrinks."""
    if image.shape[:2] == size:
        return image
    grows = size[0] * size[1] >= image.shape[0] * image.shape[1]
    method = Image.Resampling.BILINEAR if grows else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))


def resized_map(values: Maps, size: tuple[int, int]) -> Maps:
    """Floats [h, w] -> [H, W], bilinear."""
    values = np.asarray(values, dtype=np.float32)
    if values.shape == size:
        return values
    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))


def _clipped(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """float32 in [0, 1]; NaN is 0."""
    known: npt.NDArray[np.float32] = np.nan_to_num(np.asarray(values, dtype=np.float32))
    return np.clip(known, 0, 1)


def _rounded(colours: npt.NDArray[np.floating]) -> Pixels:
    """Colours from 0 to 255 as uint8."""
    rounded: Pixels = np.round(colours).astype(np.uint8)
    return rounded
