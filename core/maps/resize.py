"""Resizing images to the sizes at which a model looks at them; nothing else in the suite does it.

Two modes: `antialias` (ours) filters before it samples and squeezes very elongated images;
`opencv` is what mmsegmentation does, on which the published protocols rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

MAX_ASPECT = 4  # of `antialias`
LONG_SIDE = 2048  # of `opencv`: mmsegmentation's bound on the long side


def target_size(height: int, width: int, short: int, mode: str = "antialias") -> tuple[int, int]:
    """(H, W) in pixels of an image whose short side becomes `short`, the aspect kept, sides >= 1.

    `antialias`: the long side is at most `MAX_ASPECT * short`; a more elongated image is squeezed
    to that, because a 5000 x 1 line would otherwise become 5000 * short pixels long and the cost
    of attention grows with the square of that.
    `opencv`: sides int(side * f + 0.5), f = min(2048 / long side, short / short side).
    """
    if mode == "opencv":
        factor = min(LONG_SIDE / max(height, width), short / min(height, width))
        return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
    ratio = min(max(height, width) / min(height, width), MAX_ASPECT)
    short = max(1, short)
    long = max(1, round(short * ratio))
    return (short, long) if height <= width else (long, short)


def resized_tensor(
    pixels: npt.NDArray[np.uint8],
    short: int,
    mode: str = "antialias",
    size: tuple[int, int] | None = None,
) -> Tensor:
    """uint8 [H, W, 3] -> float32 [3, h, w] in [0, 1], (h, w) = `target_size`, bilinear.

    `opencv` rounds to 8 bits, as OpenCV does on bytes. size: (H, W) of the image itself, where
    `pixels` are a reduced copy of it.
    """
    import torch  # late: settings are read without it

    whole = size or (pixels.shape[0], pixels.shape[1])
    height, width = target_size(whole[0], whole[1], short, mode)
    if mode == "opencv":
        import cv2

        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(small).permute(2, 0, 1).float() / 255
    # One plane at a time: a float copy of a whole 20-megapixel image takes 240 MB.
    return torch.cat([_antialiased(pixels[..., c], (height, width)) for c in range(3)])


def _antialiased(plane: npt.NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """uint8 [H, W] -> float32 [1, h, w] in [0, 1]."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    values = torch.from_numpy(np.ascontiguousarray(plane))[None, None].float() / 255
    if size != tuple(plane.shape):
        values = F.interpolate(values, size=size, mode="bilinear", antialias=True)
    return values[0]
