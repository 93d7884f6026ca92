"""Training pairs of the world in memory, and how they are seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.records import Skipped
from ..data.words import split_words
from ..errors import TTDError


@dataclass(frozen=True)
class WorldPair:
    """An image, or what stands for it (uint8 [3, S, S], or an embedding [D]), and its caption.

    nouns: what each pixel shows, uint8 [S, S], 0 for no thing; None where it is not asked for.
    """

    image: Tensor
    text: str
    nouns: Tensor | None = None


class MemorySource:
    """`Source` of pairs that are in memory: images [N, ...], N captions, maybe N maps of nouns."""

    def __init__(
        self, images: Tensor, texts: Sequence[str], description: str, nouns: Tensor | None = None
    ):
        self.images, self.texts, self.nouns = images, texts, nouns
        self.descriptions, self.skipped = [description], list[Skipped]()
        digest = hashlib.blake2b(json.dumps(list(texts)).encode(), digest_size=16)
        digest.update(images.contiguous().view(torch.uint8).numpy().data)
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def read(self, number: int) -> WorldPair:
        """Pair `number` in [0, len)."""
        nouns = None if self.nouns is None else self.nouns[number]
        return WorldPair(self.images[number], self.texts[number], nouns)

    def where(self, number: int) -> tuple[int, str]:
        """Its number; pairs in memory have no other name."""
        return number, str(number)


def load_pairs(world: Path) -> tuple[Tensor, list[str]]:
    """All pairs under world/cc3m/train, in the order of their ids.

    Returns images uint8 [N, 3, S, S] RGB and their captions; 40,000 images of 96 px take 1.1 GB.
    TTDError where there are none, or where one cannot be read.
    """
    folder = world / "cc3m" / "train"
    paths = sorted((folder / "image").glob("*.jpg"))
    if not paths:
        raise TTDError(
            f"no training images in {folder}/image: run tools/make_world.py --out {world} first, "
            "with the options that the recipe's first lines name"
        )
    first = _read(paths[0])
    images = np.empty((len(paths), 3, *first.shape[:2]), np.uint8)
    texts = []
    for i, path in enumerate(paths):
        image = _read(path)
        if image.shape != first.shape:
            raise TTDError(
                f"{path} is {image.shape[:2]}, {paths[0].name} is {first.shape[:2]}: images must "
                "have one size"
            )
        images[i] = image.transpose(2, 0, 1)
        record = folder / "json" / f"{path.stem}.json"
        texts.append(json.loads(record.read_text(encoding="utf-8"))["text"])
    return torch.from_numpy(images), texts


def _read(path: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(path))
    if image is None:
        raise TTDError(f"{path} is not a readable image: make the world again")
    return np.asarray(image[..., ::-1], np.uint8)


def random_crops(images: Tensor, low: float, draws: Tensor, mode: str = "bilinear") -> Tensor:
    """Square crops of side `low` to 1 (of the image), half of them mirrored, at the full size.

    images float [B, C, S, S] -> [B, C, S, S]; draws [4, B] in [0, 1): zoom, mirror, x, y. mode:
    `nearest` for maps of labels. No caption of the world mentions left or right, so mirroring is
    free.
    """
    zoom, flip, x, y = draws
    side = low + (1 - low) * zoom
    affine = torch.zeros(len(images), 2, 3)
    affine[:, 0, 0] = side * (1 - 2 * (flip < 0.5).float())
    affine[:, 1, 1] = side
    affine[:, :, 2] = (2 * torch.stack([x, y], 1) - 1) * (1 - side)[:, None]
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode, padding_mode="reflection", align_corners=False)


def shrink(
    images: Tensor, small: int, patch: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Images at `small` pixels, at one random place of an empty canvas of their old size.

    images [B, 3, S, S] -> canvas [B, 3, S, S] and the tokens [1 + (small / patch)^2] to keep:
    class token 0 and the patches that the images cover. A ViT then needs only those: (small / S)^2
    of the cost, each thing still whole.
    """
    grid, part = images.shape[-1] // patch, small // patch
    top, left = rng.integers(0, grid - part + 1, 2).tolist()
    little = F.interpolate(
        images, (small, small), mode="bilinear", antialias=True, align_corners=False
    )
    canvas = torch.zeros_like(images)
    canvas[:, :, top * patch : top * patch + small, left * patch : left * patch + small] = little
    rows, columns = torch.arange(top, top + part), torch.arange(left, left + part)
    patches = 1 + (rows[:, None] * grid + columns).flatten()
    return canvas, torch.cat([torch.zeros(1, dtype=torch.long), patches])


def random_span(text: str, share: float, draws: Sequence[float]) -> str:
    """With chance `share`, one to three words in a row of a caption: single words seen alone.

    draws: three numbers in [0, 1): whether, where, how many.
    """
    chance, place, length = draws
    if chance >= share:
        return text
    words = [word.text for word in split_words(text)]
    count = min(len(words), 1 + int(3 * length))
    start = int(place * (len(words) - count + 1))
    return " ".join(words[start : start + count])
