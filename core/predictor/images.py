"""The image as refinement takes it: bounded in size, as a tensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Pixels = npt.NDArray[np.uint8]


def bounded(image: Pixels, side: int) -> Pixels:
    """An image uint8 [H, W, 3] with its long side at most `side`: the mean of its pixels."""
    if max(image.shape[:2]) <= side:
        return image
    factor = side / max(image.shape[:2])
    height, width = (max(1, round(length * factor)) for length in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def to_tensor(image: Pixels) -> Tensor:
    """uint8 [H, W, 3] -> float32 [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
