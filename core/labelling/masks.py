"""The mask of a caption and one of each of its tags, from one pass of the image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..backbones.base import Backbone
from ..data.images import Pixels
from ..data.labels.rle import compress
from ..maps.sliding import Merged
from ..maps.views import Prepared
from ..masks.labels import above_each
from ..masks.merge import merge_each
from ..masks.pipeline import FOREGROUND, check_maps
from ..masks.protocol import MaskProtocol
from ..masks.writer import LEVEL
from ..text.encode import encode_texts
from ..utils.memory import in_smaller_batches
from .settings import Box, TagMask

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Made:
    """The mask of a text, its tight box (None of an empty one), and its PNG (b"" if not asked)."""

    mask: TagMask
    box: Box | None
    png: bytes


class TextMasks:
    """Masks as produce_masks_from_text.py makes them; its `--tags selected` is their union."""

    def __init__(self, backbone: Backbone, used: MaskProtocol, windows: int) -> None:
        """used: resolved protocol; windows: in one forward pass."""
        self.used, self._backbone, self._windows = used, backbone, windows

    def make(
        self,
        name: str,
        caption: str,
        tags: Sequence[str],
        pixels: Pixels,
        prepared: Prepared,
        *,
        png: bool = False,
    ) -> tuple[Made, list[Made]]:
        """The caption's mask, and one of each tag, in an image uint8 [H, W, 3] called `name`.

        prepared: the image for the protocol's views. TTDError: maps that are not finite.
        """
        texts = [encode_texts(self._backbone, [caption])]  # each as it would be encoded alone
        if tags:
            texts.append(encode_texts(self._backbone, tags))
        work = partial(merge_each, self._backbone, prepared, texts, self.used)
        merged, self._windows = in_smaller_batches(work, self._windows, "use a smaller --image")
        found = [self._above(one, pixels, name) for one in merged]
        whole = made(caption, found[0][0], png)
        each = zip(tags, found[1], strict=True) if tags else ()
        return whole, [made(tag, mask, png) for tag, mask in each]

    def _above(self, merged: Merged, pixels: Pixels, name: str) -> Mask:
        """bool [N, H, W]."""
        check_maps(merged, name)
        return above_each(merged, pixels, self.used, self._backbone.pamr)


def made(text: str, mask: Mask, png: bool = False) -> Made:
    """A mask bool [H, W] in the forms in which it is stored."""
    found = TagMask(text, int(mask.sum()), compress(mask))
    return Made(found, tight_box(text, mask), png_of(mask) if png else b"")


def tight_box(text: str, mask: Mask) -> Box | None:
    """The smallest box around a mask bool [H, W]: corners in pixels, None of an empty one."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    corners = (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
    left, top, right, bottom = map(float, corners)
    return Box(text, "mask", (left, top, right, bottom))


def png_of(mask: Mask) -> bytes:
    """The file that produce_masks_from_text.py writes of a mask bool [H, W]."""
    file = io.BytesIO()
    values = np.where(mask, FOREGROUND, 0).astype(np.uint8)
    Image.fromarray(values).save(file, format="PNG", compress_level=LEVEL)
    return file.getvalue()
