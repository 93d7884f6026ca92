"""What is looked at of an image: one settings class for tags, masks, the demo and held-out sets.

views = Views(448, scales=(1.0, 0.5), hflip=True)
prepared = prepare(read_image("dog.jpg"), views)          # [3, h, w] for each scale
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import TTDError
from .resize import resized_tensor, target_size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

RESIZES = ("antialias", "opencv")
# Pixels in one forward pass of the image tower: bounds memory whatever sizes are asked for.
FORWARD_PIXELS = 32 * 224 * 224

Span = tuple[int, int]  # first pixel and one past the last
Shapes = tuple[tuple[int, int], ...]  # (h, w) of an image at every scale


@dataclass(frozen=True)
class Windows:
    """Sliding windows: their side and how far apart they start, in pixels."""

    side: int
    step: int


@dataclass(frozen=True)
class Views:
    """The views of an image whose maps are averaged. TTDError for values that cannot be.

    size: short side in pixels at scale 1. scales: factors of it, each > 0. hflip: every view is
    also encoded mirrored. windows: sliding windows over every scale; None encodes it whole.
    resize: a mode of `core.maps.resize`.
    """

    size: int
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = False
    windows: Windows | None = None
    resize: str = "antialias"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise TTDError(f"image size must be at least 1 pixel, got {self.size}")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise TTDError(
                f"scales must be positive numbers, got {list(self.scales)}; "
                "the usual ones are 1.0 0.5 1.5 2.0"
            )
        if self.windows is not None and min(self.windows.side, self.windows.step) < 1:
            raise TTDError(f"side and step of windows must be at least 1 pixel: {self.windows}")
        if self.resize not in RESIZES:
            raise TTDError(f"resize {self.resize!r}: choose one of {', '.join(RESIZES)}")

    @property
    def sides(self) -> tuple[int, ...]:
        """Short side in pixels at every scale: size * scale, rounded, at least 1."""
        return tuple(max(1, round(self.size * scale)) for scale in self.scales)

    @property
    def nearest(self) -> int:
        """Index of the scale nearest to 1 (the first of equals): that of pooled embeddings."""
        return min(range(len(self.scales)), key=lambda i: abs(self.scales[i] - 1))

    def check(self, patch: int) -> None:
        """TTDError where a scale is smaller than one patch of the model, of `patch` pixels."""
        if (smallest := min(self.sides)) < patch:
            raise TTDError(
                f"--image {self.size} at scales {list(self.scales)}: {smallest} pixels are less "
                f"than one patch of the model, {patch}; use a larger --image or larger --scales"
            )

    def shapes(self, height: int, width: int) -> Shapes:
        """(h, w) at every scale of an image of height x width pixels."""
        return tuple(target_size(height, width, side, self.resize) for side in self.sides)

    def largest(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) at the largest scale of an image of height x width pixels."""
        return max(self.shapes(height, width))

    def spans(self, length: int) -> list[Span]:
        """The windows along one side of `length` pixels of a scaled image."""
        if self.windows is None:
            return [(0, length)]
        return window_spans(length, self.windows.side, self.windows.step)


@dataclass(frozen=True)
class Prepared:
    """An image ready to be encoded.

    size: (H, W) of the image itself. scaled: float32 [3, h, w] in [0, 1] for every scale.
    """

    size: tuple[int, int]
    scaled: tuple[Tensor, ...]

    @property
    def shapes(self) -> Shapes:
        """(h, w) at every scale."""
        return tuple((image.shape[-2], image.shape[-1]) for image in self.scaled)


def prepare(
    pixels: npt.NDArray[np.uint8], views: Views, size: tuple[int, int] | None = None
) -> Prepared:
    """Resize an image uint8 [H, W, 3] to every scale of `views`. Safe to call in threads.

    size: (H, W) of the image itself, where `pixels` are a reduced copy of it.
    """
    scaled = tuple(resized_tensor(pixels, side, views.resize, size) for side in views.sides)
    return Prepared(size or (pixels.shape[0], pixels.shape[1]), scaled)


def same_shapes(shapes: Sequence[Shapes], copies: int = 1) -> Iterator[list[int]]:
    """Rows of images that can be encoded together, in the order given.

    shapes: of each image. Images share a batch when they are of one size at every scale, so
    nothing that an image is resized or padded to depends on its neighbours. A batch holds at most
    FORWARD_PIXELS, `copies` of each image counted (2 with the mirrored one), and at least one.
    """
    by_shape: dict[Shapes, list[int]] = {}
    for row, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(row)
    for shape, rows in by_shape.items():
        largest = copies * max(height * width for height, width in shape)
        step = max(1, FORWARD_PIXELS // largest)
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def window_spans(length: int, window: int, stride: int) -> list[Span]:
    """Where windows of `window` pixels lie on a side of `length` pixels.

    As TCL and mmsegmentation place them: n = floor(max(length - window + stride - 1, 0) / stride)
    + 1 windows; window k ends at min(k stride + window, length) and starts `window` before that,
    so the last ones are pulled back; a shorter side is one window.

    >>> window_spans(597, 448, 224)
    [(0, 448), (149, 597)]
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = (min(k * stride + window, length) for k in range(count))
    return [(max(end - window, 0), end) for end in ends]
