"""How training images are seen: scale, crop, mirror, squeezed to a square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..errors import TTDError
from .config import TTDConfig


@dataclass(frozen=True)
class Augmentation:
    """Squares of `size` pixels at scale 1, of the whole image unless `crop` < 1.

    patch: sizes of other scales are rounded to its multiples. scales: one is drawn per step.
    hflip: half of the images are mirrored. crop: the smallest side of a random crop, as a share
    of the image's; 1 = none, because captions also name what stands at the border.
    """

    size: int
    patch: int
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = True
    crop: float = 1.0

    @classmethod
    def of(cls, config: TTDConfig, backbone: Backbone) -> Augmentation:
        """By the settings, for this model. TTDError: the size is no multiple of its patch."""
        size = config.image or backbone.image_size
        if size % backbone.patch:
            raise TTDError(
                f"--image {size}: choose a multiple of {backbone.arch}'s patch, "
                f"{backbone.patch} pixels"
            )
        return cls(size, backbone.patch, config.scales, config.hflip, config.crop)

    def side(self, rng: np.random.Generator) -> int:
        """The side in pixels of the images of a step, a multiple of the patch; rng: the step's."""
        if len(self.scales) == 1:
            scale = self.scales[0]
        else:
            scale = self.scales[int(rng.integers(len(self.scales)))]
        if scale == 1:
            return self.size
        return max(1, round(self.size * scale / self.patch)) * self.patch


def augment(
    pixels: npt.NDArray[np.uint8], view: Augmentation, side: int, rng: np.random.Generator
) -> Tensor:
    """An image uint8 [H, W, 3] -> float32 [3, side, side] in [0, 1].

    A crop of the image's own shape, mirrored or not, squeezed to the square: bilinear with
    antialiasing, as images are resized everywhere else.
    """
    height, width = pixels.shape[:2]
    # Always four draws: one setting does not move the others.
    mirrored, zoom, down, across = rng.random(4)
    share = view.crop + (1 - view.crop) * zoom
    h, w = max(1, round(share * height)), max(1, round(share * width))
    top, left = int(down * (height - h + 1)), int(across * (width - w + 1))
    cropped = pixels[top : top + h, left : left + w]
    if view.hflip and mirrored < 0.5:
        cropped = cropped[:, ::-1]
    return torch.cat([_resize(cropped[..., channel], side) for channel in range(3)])


def _resize(plane: npt.NDArray[np.uint8], side: int) -> Tensor:
    """uint8 [H, W] -> float32 [1, side, side] in [0, 1].

    A plane at a time: large images are four times larger as floats.
    """
    values = torch.from_numpy(np.ascontiguousarray(plane))[None, None].float() / 255
    if values.shape[-2:] == (side, side):
        return values[0]
    resized = F.interpolate(
        values, (side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0].clamp(0, 1)
