"""Mask files as they are stored: label values, foreground masks, and what is wrong with them.

Pillow stretches grey PNGs of 2 and 4 bits to 0-255 (times 85 and 17) and cuts 16-bit colours to
their high bytes; here the first are divided again and the second are refused, since a label is the
sample that the file stores.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import TTDError
from ...utils.files import regular_bytes
from ...utils.shown import beginning
from ..images import open_image

Labels: TypeAlias = npt.NDArray[np.uint8]
Values: TypeAlias = npt.NDArray[Any]  # as a file stores them
SHOWN = 4  # values named in a message
FORMATS = ("PNG",)  # JPEG, for one, does not keep label values
PNG_START = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 4, 6  # colour types of PNG


@dataclass(frozen=True)
class StoredLabels:
    """The values of an index mask uint8 [H, W].

    colours: uint8 [n, 3] of the file's palette by value, None where it has none.
    """

    values: Labels
    colours: npt.NDArray[np.uint8] | None = None


def read_index(path: Path) -> Labels:
    """An index mask (palette or grey PNG), uint8 [H, W]: the samples as they are stored.

    Raises TTDError naming the file: missing, unreadable, no PNG, colour-coded, or with values above
    255 (instance ids).
    """
    return read_stored(path).values


def read_stored(path: Path) -> StoredLabels:
    """An index mask with its palette. Errors as of `read_index`."""
    image, values = _decoded(path)
    if values.ndim == 3:
        values = _single_channel(image, values, path)
    if values.size and (values.min() < 0 or values.max() > 255):
        raise TTDError(
            f"{path}: values up to {values.max()}: looks like instance ids; "
            "wanted 8-bit label values"
        )
    palette = image.getpalette("RGB") if image.mode == "P" else None
    colours = None if palette is None else np.array(palette, np.uint8).reshape(-1, 3)
    return StoredLabels(np.ascontiguousarray(values, dtype=np.uint8), colours)


def read_foreground(path: Path) -> npt.NDArray[np.bool_]:
    """A true foreground mask, bool [H, W]: what is not 0; soft grey ones are cut at half, and said.

    TTDError when it is missing, unreadable, or grey with several values and no white (labels?).
    """
    values, grey = _foreground(path)
    if grey and not set(np.unique(values).tolist()) <= {0, 1, 255}:
        levels = np.unique(values[values != 0]).tolist()
        if len(levels) > 1:
            return _cut(values, levels, path)
    return np.not_equal(values, 0)


def _cut(values: Values, levels: list[int], path: Path) -> npt.NDArray[np.bool_]:
    """A mask [H, W] with soft edges, cut at half of white."""
    if levels[-1] != 255:
        raise TTDError(
            f"{path}: values {beginning(levels, SHOWN)}; a mask of one tag has 0 and one other "
            "value, such as 255"
        )
    # One text for all files, so that it is said once.
    warnings.warn("soft true masks (values between 0 and 255) are cut at half", stacklevel=1)
    return np.asarray(values) >= 128


def read_values(path: Path) -> Values:
    """The values of a foreground mask [H, W]; of a colour image, the highest of each pixel.

    White is 255 in grey masks of 2 and 4 bits too. TTDError when it is missing or unreadable.
    """
    return _foreground(path)[0]


def _foreground(path: Path) -> tuple[Values, bool]:
    """Values [H, W] as of `read_values`, and whether the file is grey."""
    image, values = _decoded(path)
    grey = image.mode != "P"
    if values.ndim == 3:
        colours = _colours(image, values)
        values, grey = colours.max(axis=-1), bool((colours == colours[..., :1]).all())
    if white := image.info.get("white"):
        values = np.where(values == white, np.uint8(255), values)
    return values, grey


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


def _decoded(path: Path) -> tuple[Image.Image, Values]:
    """The decoded file and its samples as they are stored [H, W] or [H, W, C]; TTDError.

    image.info["white"]: the highest sample of a grey file of 2 or 4 bits.
    """
    data = regular_bytes(path)
    if not data.startswith(PNG_START) or len(data) < 26:
        raise TTDError(f"{path}: cannot be read as a mask (not a PNG); save it as PNG")
    depth, kind = data[24], data[25]  # of the header chunk, which comes first
    if depth == 16 and kind in (COLOUR, GREY_ALPHA, COLOUR_ALPHA):
        raise TTDError(f"{path}: 16 bits a colour; wanted 8-bit label values, in one channel")
    image = open_image(data, path, FORMATS, "cannot be read as a mask")
    values: Values = np.asarray(image)
    if kind in (GREY_ALPHA, COLOUR_ALPHA) and np.ptp(values[..., -1]):
        raise TTDError(
            f"{path}: partly transparent, so its colours do not tell what is in the mask; save it "
            "without transparency, in one channel"
        )
    if kind == GREY and depth in (2, 4):
        white = 2**depth - 1
        image.info["white"] = white
        values = values // (255 // white)
    return image, values


def _colours(image: Image.Image, values: Values) -> Values:
    """Values [H, W, C] of an image without its transparency."""
    if image.mode in ("LA", "PA"):
        return values[..., :1]
    return values[..., :3]
