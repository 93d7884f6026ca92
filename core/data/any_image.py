"""Images as callers hold them (paths, Pillow images, arrays, tensors) to uint8 RGB."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from ..errors import TTDError
from .images import Pixels, pixels_of, read_image

ImageLike: TypeAlias = Any  # a path, a Pillow image, uint8 [H, W], [H, W, 1 | 3 | 4], a tensor

KINDS = "a path, a Pillow image, or uint8 [H, W, 3] RGB (also [H, W], [H, W, 1] and [H, W, 4])"


def as_pixels(image: ImageLike, name: str = "image") -> Pixels:
    """Any image in memory or on disk as uint8 [H, W, 3] RGB, a copy of its own.

    Args:
        image: a path; a Pillow image (turned upright and put on white, as `read_image` does); a
            NumPy array uint8 [H, W], [H, W, 1], [H, W, 3] RGB or [H, W, 4] RGBA; a torch tensor
            uint8 [H, W] or [1 | 3 | 4, H, W], as torchvision reads images.
        name: what errors call it.
    Raises TTDError for anything else. Floats are refused, since [0, 1], [0, 255] and normalized
    ones cannot be told apart.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image):
        return pixels_of(image, name)
    if isinstance(image, torch.Tensor):
        return _of_array(_channels_last(image, name), name)
    if isinstance(image, np.ndarray):
        return _of_array(image, name)
    raise TTDError(f"{name}: {type(image).__name__} is no image; give {KINDS}")


def _channels_last(image: torch.Tensor, name: str) -> Any:
    """A tensor [C, H, W] or [H, W] as an array [H, W, C] or [H, W]."""
    if image.ndim == 3 and image.shape[0] not in (1, 3, 4):
        raise TTDError(
            f"{name}: a tensor {list(image.shape)}; tensors have their channels first, as "
            "torchvision reads them: [3, H, W]"
        )
    values = image.detach().cpu()
    if values.dtype == torch.bfloat16:  # NumPy has none; it is refused below
        values = values.float()
    return (values.permute(1, 2, 0) if values.ndim == 3 else values).numpy()


def _of_array(array: Any, name: str) -> Pixels:
    """An array uint8 [H, W] or [H, W, C] as RGB."""
    if problem := _problem(array):
        raise TTDError(f"{name}: {array.dtype} {list(array.shape)}; {problem}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[2] == 3:
        return np.array(array, order="C")
    return pixels_of(Image.fromarray(np.ascontiguousarray(array)), name)


def _problem(array: Any) -> str:
    """What keeps an array from being an image, "" where nothing does."""
    if array.ndim == 4:
        return "that is several images: give them one by one, or use Predictor.each"
    if array.dtype != np.uint8:
        return (
            "wanted uint8 from 0 to 255 (floats from 0 to 1 become that by "
            "(255 * x).round().astype('uint8'))"
        )
    if array.ndim not in (2, 3) or not array.size:
        return f"wanted {KINDS}"
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        first = "the channels come last: x.transpose(1, 2, 0); " * (array.shape[0] in (1, 3, 4))
        return f"{first}wanted {KINDS}"
    return ""
