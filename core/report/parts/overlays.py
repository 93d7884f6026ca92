"""Masks over their image, side by side: the truth, what was found, and what was before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...plots.gallery import coloured
from . import images
from .page import Html

PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[1] = (240, 200, 60)
COLOURS = (((240, 200, 60), "foreground"), ((0, 0, 0), "background"))
Mask = npt.NDArray[np.bool_]


def overlays(photo: images.Pixels | None, said: str, masks: Sequence[tuple[str, Mask]]) -> Html:
    """An image uint8 [H, W, 3], called `said`, and its masks [H, W] by what they are; their key.

    None: an image that was not found; its masks are shown alone.
    """
    views = [] if photo is None else [("image", images.image(photo, said))]
    ground = np.zeros((0, 0, 3), np.uint8) if photo is None else photo
    for kind, mask in masks:
        drawn = coloured(ground, mask.astype(np.uint8), PALETTE)
        views.append((kind, images.image(drawn, kind, labels=True)))
    lost = Html("") if photo is not None else images.not_found()
    return Html(images.views(views) + images.key(COLOURS) + lost)
