"""Training pairs of the world in memory, and the crops they are seen in."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.words import split_words
from ..errors import TTDError


def load_pairs(world: Path) -> tuple[Tensor, list[str]]:
    """All pairs under world/cc3m/train -> images uint8 [N,3,S,S] RGB and their captions, in the order of their ids.

    40,000 images of 96 px take 1.1 GB. Raises TTDError where there are none, or where one cannot
    be read.
    """
    folder = world / "cc3m" / "train"
    paths = sorted((folder / "image").glob("*.jpg"))
    if not paths:
        raise TTDError(
            f"no training images in {folder}/image: run tools/make_world.py --out {world} first"
        )
    first = _read(paths[0])
    pictures = np.empty((len(paths), 3, *first.shape[:2]), np.uint8)
    texts = []
    for i, path in enumerate(paths):
        image = _read(path)
        if image.shape != first.shape:
            raise TTDError(
                f"{path} is {image.shape[:2]}, {paths[0].name} is {first.shape[:2]}: images must be alike"
            )
        pictures[i] = image.transpose(2, 0, 1)
        texts.append(
            json.loads((folder / "json" / f"{path.stem}.json").read_text(encoding="utf-8"))["text"]
        )
    return torch.from_numpy(pictures), texts


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise TTDError(f"{path} is not a readable image: make the world again")
    return image[..., ::-1]


def random_crops(images: Tensor, low: float, generator: torch.Generator) -> Tensor:
    """Square crops of side `low` to 1 (of the image), half of them mirrored, back at the full size.

    images float [B,3,S,S] -> [B,3,S,S]. No caption of the world speaks of left or right, so
    mirroring is free.
    """
    count = len(images)
    zoom, flip, x, y = torch.rand(4, count, generator=generator)
    side = low + (1 - low) * zoom
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0] = side * (1 - 2 * (flip < 0.5).float())
    affine[:, 1, 1] = side
    affine[:, :, 2] = (2 * torch.stack([x, y], 1) - 1) * (1 - side)[:, None]
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def shrink(
    images: Tensor, small: int, patch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images at `small` pixels, at one random place of an empty canvas of their old size, and where they are.

    images [B,3,S,S] -> canvas [B,3,S,S] and the tokens [1 + (small/patch)^2] to keep: class token 0
    and the patches that the images cover. A ViT then needs only those: (small/S)^2 of the cost,
    each thing still whole.
    """
    grid, part = images.shape[-1] // patch, small // patch
    top, left = torch.randint(0, grid - part + 1, (2,), generator=generator).tolist()
    little = F.interpolate(
        images, (small, small), mode="bilinear", antialias=True, align_corners=False
    )
    canvas = torch.zeros_like(images)
    canvas[:, :, top * patch : top * patch + small, left * patch : left * patch + small] = little
    rows, columns = torch.meshgrid(
        torch.arange(top, top + part), torch.arange(left, left + part), indexing="ij"
    )
    return canvas, torch.cat(
        [torch.zeros(1, dtype=torch.long), 1 + (rows * grid + columns).flatten()]
    )


def random_spans(texts: list[str], share: float, generator: torch.Generator) -> list[str]:
    """Cut a `share` of the captions down to one to three words in a row, so that single words are seen alone."""
    draws = torch.rand(3, len(texts), generator=generator).tolist()
    cut = []
    for text, chance, place, length in zip(texts, *draws, strict=True):
        words = [word.text for word in split_words(text)]
        if chance < share:
            count = min(len(words), 1 + int(3 * length))
            start = int(place * (len(words) - count + 1))
            text = " ".join(words[start : start + count])
        cut.append(text)
    return cut


def batch_indices(count: int, batch: int, step: int, seed: int) -> Tensor:
    """The images of step `step` -> [batch]: every epoch its own shuffle, the last incomplete batch left out."""
    per_epoch = count // batch
    epoch, place = divmod(step, per_epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100003 + epoch))
    return order[place * batch : (place + 1) * batch]
