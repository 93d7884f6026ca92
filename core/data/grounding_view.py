"""How an image and its box are seen: resized, cropped, tinted, put on a square canvas.

What CLIP-VG (TMM 2023) does, in its order. Images are normalized by ImageNet's mean and standard
deviation, although the towers are CLIP's, and are never mirrored: "left" would become wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Corners = npt.NDArray[np.float64]  # [4], left, top, right, bottom in pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DIRECTIONS = ("left", "right", "top", "bottom", "middle")  # such phrases are not cropped
SHORT_SIDES = (400, 500, 600)  # before a crop
CROP = (384, 600)  # smallest and largest side of a crop
TRIES = 20
STEP = 32  # between two sizes of `scale`
JITTER = 0.4  # brightness, contrast and saturation change by up to this share
JITTER_CHANCE, BLUR_CHANCE, CROP_CHANCE = 0.8, 0.5, 0.5
BLUR = (0.1, 2.0)  # radius in pixels
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True)
class Augmentation:
    """Which random changes a training image goes through; those of CLIP-VG's flags.

    crop: half of the images a random crop that keeps the box's centre; scale: the long side one of
    S, S - 32, ... 32; translate: anywhere on the canvas; blur; jitter: colours.
    parity: the published test of a crop, which compares the centre's x with the crop's top and its
    y with the left; the crop may then cut the box away. Off: the centre must be in the crop.
    """

    crop: bool = False
    scale: bool = False
    translate: bool = False
    blur: bool = False
    jitter: bool = True
    parity: bool = False


@dataclass(frozen=True)
class Placement:
    """Where an image lies on its canvas: pixel (x, y) at (left + ratio x, top + ratio y).

    size: side of the canvas; width, height: of the image in pixels.
    """

    ratio: float
    left: int
    top: int
    size: int
    width: int
    height: int

    def to_pixels(self, boxes: Tensor) -> Tensor:
        """Boxes on the canvas, cxcywh [..., 4] in [0, 1] -> corners in the image's pixels.

        They are cut to the image.
        """
        cx, cy, w, h = (boxes.double() * self.size).unbind(-1)
        x = torch.stack([cx - w / 2, cx + w / 2], -1)
        y = torch.stack([cy - h / 2, cy + h / 2], -1)
        x = ((x - self.left) / self.ratio).clamp(0, self.width)
        y = ((y - self.top) / self.ratio).clamp(0, self.height)
        return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)


@dataclass(frozen=True)
class Seen:
    """A view: image float32 [3, S, S] normalized; ignored bool [S, S], True on the padding.

    box: cxcywh float32 [4] relative to the canvas, zeros where there is none.
    """

    image: Tensor
    ignored: Tensor
    box: Tensor
    placement: Placement


def view(pixels: Pixels, size: int, box: Corners | None = None) -> Seen:
    """The view of evaluation: long side `size`, centred on the canvas.

    Args: pixels uint8 [H, W, 3] RGB; box: corners in pixels.
    """
    image = Image.fromarray(pixels)
    corners = np.zeros(4) if box is None else np.asarray(box, np.float64)
    image, corners, ratio = _resize(image, corners, size / max(image.size))
    seen = _on_canvas(image, corners, size, ratio, (pixels.shape[1], pixels.shape[0]), None)
    return replace(seen, box=torch.zeros(4)) if box is None else seen


def training_view(
    pixels: Pixels, box: Corners, text: str, size: int, how: Augmentation, rng: np.random.Generator
) -> Seen:
    """A random view for training.

    Args: pixels uint8 [H, W, 3] RGB; box: corners in pixels; text: the phrase, lower case.
    """
    image, corners = Image.fromarray(pixels), np.asarray(box, np.float64)
    words = any(word in text for word in DIRECTIONS)
    if how.crop and not words and rng.random() < CROP_CHANCE:
        image, corners = _cropped(image, corners, how.parity, rng)
    sides = _sides(size) if how.scale else [size]
    side = sides[int(rng.integers(len(sides)))]
    image, corners, ratio = _resize(image, corners, side / max(image.size))
    if how.jitter and rng.random() < JITTER_CHANCE:
        image = _jittered(image, rng)
    if how.blur and rng.random() < BLUR_CHANCE:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(*BLUR))))
    shape = (pixels.shape[1], pixels.shape[0])
    return _on_canvas(image, corners, size, ratio, shape, rng if how.translate else None)


def _sides(size: int) -> list[int]:
    """Seven long sides, 32 apart, as far as they are positive."""
    return [size - STEP * i for i in range(7) if size - STEP * i >= STEP] or [size]


def _resize(image: Image.Image, box: Corners, ratio: float) -> tuple[Image.Image, Corners, float]:
    """Both sides times `ratio`, rounded; the box times the ratio itself. Bilinear, antialiased."""
    width, height = (max(1, round(side * ratio)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image, box * ratio, ratio


def _cropped(
    image: Image.Image, box: Corners, parity: bool, rng: np.random.Generator
) -> tuple[Image.Image, Corners]:
    """Short side 400, 500 or 600, then a crop of 384 to 600 pixels; none after 20 tries."""
    short = SHORT_SIDES[int(rng.integers(len(SHORT_SIDES)))]
    image, box, _ = _resize(image, box, short / min(image.size))
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    for _ in range(TRIES):
        w, h = (int(rng.integers(CROP[0], min(side, CROP[1]) + 1)) for side in image.size)
        left = int(rng.integers(image.width - w + 1))
        top = int(rng.integers(image.height - h + 1))
        inside = left < cx < left + w and top < cy < top + h
        if (cx > top and cy > left) if parity else inside:
            shifted = box - np.array([left, top, left, top])
            cut = np.clip(shifted, 0, [w, h, w, h])
            return image.crop((left, top, left + w, top + h)), cut
    return image, box


def _jittered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation in random order, each times U(0.6, 1.4)."""
    for number in rng.permutation(len(ENHANCERS)):
        factor = float(rng.uniform(1 - JITTER, 1 + JITTER))
        image = ENHANCERS[number](image).enhance(factor)
    return image


def _on_canvas(
    image: Image.Image,
    box: Corners,
    size: int,
    ratio: float,
    shape: tuple[int, int],
    rng: np.random.Generator | None,
) -> Seen:
    """The image on a canvas of zeros, centred, or anywhere by `rng`; shape: the source's W, H."""
    width, height = image.size
    down, across = size - height, size - width
    if rng is None:
        top, left = round(down / 2 - 0.1), round(across / 2 - 0.1)
    else:
        top, left = int(rng.integers(down + 1)), int(rng.integers(across + 1))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    canvas, ignored = torch.zeros(3, size, size), torch.ones(size, size, dtype=torch.bool)
    canvas[:, top : top + height, left : left + width] = (pixels - mean) / std
    ignored[top : top + height, left : left + width] = False
    x0, y0, x1, y1 = box + np.array([left, top, left, top])
    centres = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / size
    target = torch.from_numpy(centres.astype(np.float32))
    return Seen(canvas, ignored, target, Placement(ratio, left, top, size, *shape))
