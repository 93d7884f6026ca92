"""True masks of images that an EXIF block turns: on which pixels they were drawn.

Images are read upright, as viewers show them. Some tools draw on the pixels as the file has them,
others on the upright image; where the sizes do not tell, the description must
(`masks_drawn: stored` or `upright`). The shipped sets are drawn on the stored pixels.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from ...errors import TTDError
from ..images import FORMATS
from .mask_files import Labels

QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def stored_size(path: Path, ahead: bool = False) -> tuple[tuple[int, int], int] | None:
    """(W, H) as the file has it and its EXIF orientation 1-8; None when it cannot be read.

    ahead: never decode a PNG to look for an EXIF block behind its pixels, where it seldom is.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            known = [one for one in FORMATS if one in Image.OPEN]
            with Image.open(path, formats=known) as image:
                if ahead and image.format == "PNG" and "exif" not in image.info:
                    return image.size, 1
                turn = image.getexif().get(ExifTags.Base.Orientation, 1)
                return image.size, turn if turn in METHODS else 1
    except Exception:  # decoders raise nearly any type on damaged bytes; reading will say so
        return None


def upright_size(path: Path, ahead: bool = False) -> tuple[int, int] | None:
    """(W, H) of an image from its header, turned as EXIF asks; None when it cannot be read.

    ahead: see `stored_size`.
    """
    if (found := stored_size(path, ahead)) is None:
        return None
    (width, height), turn = found
    return (height, width) if turn in QUARTER_TURNS else (width, height)


IN_YAML = "say `masks_drawn: upright` or `masks_drawn: stored` in the YAML, or "


def turned_mask(
    labels: Labels, image: Path, drawn: str | None, mask: Path, advice: str = IN_YAML
) -> Labels:
    """The mask [H, W] of `image` on its upright pixels.

    drawn: on which pixels it was drawn, "stored" or "upright"; None where that is not known: the
    sizes then tell it for quarter turns. Raises TTDError where they cannot, with `advice`.
    """
    if (found := stored_size(image)) is None or found[1] == 1:
        return labels
    (width, height), turn = found
    told = turn in QUARTER_TURNS and width != height
    if told:
        drawn = {(height, width): "stored", (width, height): "upright"}.get(labels.shape, "upright")
    if drawn is None:
        raise TTDError(
            f"{image}: an EXIF block turns it (orientation {turn}), and the sizes do not tell "
            f"whether {mask.name} was drawn on the turned image: {advice}save the image without "
            "the block"
        )
    if drawn == "upright":
        return labels
    return np.array(Image.fromarray(labels).transpose(METHODS[turn]))
