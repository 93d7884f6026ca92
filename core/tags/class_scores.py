"""Which classes an image shows: scores of class names, for sets that list classes, not captions.

    look = Look(224)
    with closing(look_at(backbone, paths, look)) as looked_at:
        for path, seen in looked_at:
            nearest_pixel(seen, text)                   # [C]

Every image is encoded once for all scorers. What is found in it does not depend on the images
beside it in a batch, but for rounding.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..data.images import read_reduced
from ..errors import TTDError, UnreadableError
from ..maps.grid import Grid
from ..maps.views import Prepared, Views, prepare, same_shapes
from ..utils.prefetch import prefetch


@dataclass(frozen=True)
class Look:
    """How an image is looked at: its short side becomes `size` pixels.

    crop: then only the square of that side in its middle, as CLIP was trained and as most papers
    score; else the whole image.
    """

    size: int
    crop: bool = True


@dataclass(frozen=True)
class Seen:
    """One image: P patches with some of it in them, [P, D], and its pooled embedding [D].

    Both of unit length, float32, on the CPU.
    """

    patches: Tensor
    pooled: Tensor


def look_at(
    backbone: Backbone, paths: Sequence[Path], look: Look, batch: int = 32, workers: int = 4
) -> Generator[tuple[Path, Seen | TTDError], None, None]:
    """Every image in the order given, or the error with which it cannot be decoded.

    batch: images read and encoded together. Raises UnreadableError for what the system cannot read
    now: what it holds is not known.
    """
    views = Views(look.size)
    views.check(backbone.patch)
    parts = [paths[start : start + batch] for start in range(0, len(paths), batch)]

    def read(part: Sequence[Path]) -> list[Prepared | TTDError]:
        """The images of a batch, or why one cannot be decoded."""
        return [_read(path, views, look.crop) for path in part]

    with closing(prefetch(read, parts, 2, workers)) as ahead:
        for part, found in zip(parts, ahead, strict=True):
            yield from zip(part, _encode(backbone, found), strict=True)


def _read(path: Path, views: Views, crop: bool) -> Prepared | TTDError:
    """An image at the size of the views; its error where it is damaged."""
    try:
        pixels, size = read_reduced(path, views.largest)
    except UnreadableError:
        raise
    except TTDError as error:
        return error
    prepared = prepare(pixels, views, size)
    if not crop:
        return prepared
    return Prepared(prepared.size, tuple(centre_crop(image) for image in prepared.scaled))


def centre_crop(image: Tensor) -> Tensor:
    """[C, H, W] -> the square [C, S, S] in its middle, S the shorter side.

    Where the margin is odd it is one pixel larger after the square, or before it by Python's
    rounding of halves, as torchvision's.
    """
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return image[..., top : top + side, left : left + side]


@torch.no_grad()
def _encode(backbone: Backbone, found: Sequence[Prepared | TTDError]) -> list[Seen | TTDError]:
    """The images of one batch, those of one size together."""
    results: list[Seen | TTDError] = [
        item if isinstance(item, TTDError) else TTDError("not looked at") for item in found
    ]
    images = [(row, item) for row, item in enumerate(found) if isinstance(item, Prepared)]
    for group in same_shapes([item.shapes for _, item in images]):
        rows = [images[at][0] for at in group]
        batch = torch.stack([images[at][1].scaled[0] for at in group])
        for row, seen in zip(rows, _seen(backbone, batch), strict=True):
            results[row] = seen
    return results


def _seen(backbone: Backbone, images: Tensor) -> list[Seen]:
    """Images [B, 3, H, W] in [0, 1]."""
    normal = backbone.normalize(images.to(backbone.device))
    pixels, pooled = backbone.encode_both(normal)  # [B, D, h, w], [B, D]
    size = (images.shape[-2], images.shape[-1])
    inside = Grid.of(size, backbone.patch, backbone.stride).inside().to(pixels.device)
    patches = F.normalize(pixels.float()[:, :, inside].transpose(1, 2), dim=-1).cpu()
    whole = F.normalize(pooled.float(), dim=-1).cpu()
    return [Seen(one, vector) for one, vector in zip(patches, whole, strict=True)]


def nearest_pixel(seen: Seen, text: Tensor) -> Tensor:
    """Each class's cosine with its nearest patch: [C]. text [C, D], unit length, on the CPU."""
    return (seen.patches @ text.T).amax(0)


def whole_image(seen: Seen, text: Tensor) -> Tensor:
    """Each class's cosine with the pooled embedding: [C]. text as in `nearest_pixel`."""
    return seen.pooled @ text.T


def best_share(seen: Seen, text: Tensor, others: Tensor, scale: float) -> Tensor:
    """Each class's largest share of any patch: max over patches of softmax(scale cos), [C].

    text [C, D] as in `nearest_pixel`; others [G, D]: background words, which share the softmax, G
    may be 0; scale: the model's, 100 for CLIP.
    """
    logits = scale * (seen.patches @ torch.cat([text, others]).T)
    return logits.softmax(1)[:, : len(text)].amax(0)
