"""Scores of the words of captions in their images, many at a time: which words does the image show?

    score_batch(load_backbone("tiny"), [read_image("dog.jpg")], ["a dog runs"])[0].scores["pixel"]    # [3]

Scorers: `pixel` = the word's cosine with its nearest pixel (TTD); `image` = with the pooled image
embedding; `text` = with the embedding of the whole caption. Every distinct word and every image
of a batch is encoded once; nothing is kept between batches, and a caption's scores depend on its
batch by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.images import resized_tensor
from ..data.words import Word, split_words
from ..errors import TTDError
from ..maps.views import View, average_maps, cells_to_pixels, encode_views, finest_grid, peak_cells
from ..text.encode import encode_texts

SCORERS = ("pixel", "image", "text")
FORWARD_PIXELS = (
    32 * 224 * 224
)  # in one forward pass of the image tower: bounds memory whatever sizes are asked for
WORDS = (
    32  # maps of an image at a time: a caption of 3,000 words needs no more memory than one of 32
)


@dataclass(frozen=True)
class Scored:
    """The K words of one caption: raw scores [K] (float32, CPU) by scorer, nearest pixels xy [K, 2] (int64)."""

    words: list[Word]
    scores: dict[str, Tensor]
    xy: Tensor


@dataclass(frozen=True)
class Prepared:
    """An image ready to be encoded: its own (H, W), and float [3, h, w] in [0, 1] for every scale."""

    size: tuple[int, int]
    scaled: tuple[Tensor, ...]


def prepare(image: np.ndarray, image_size: int, scales: Sequence[float] = (1.0,)) -> Prepared:
    """Resize an image uint8 [H, W, 3] to every scale: short side `image_size * scale`. Safe to call in threads."""
    return Prepared(
        image.shape[:2], tuple(resized_tensor(image, round(image_size * scale)) for scale in scales)
    )


def score_batch(
    backbone: Backbone,
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    scorers: Sequence[str] = SCORERS,
    *,
    image_size: int | None = None,
    scales: Sequence[float] = (1.0,),
    hflip: bool = False,
) -> list[Scored]:
    """Score the words of B captions in their B images.

    Args:
        images: B arrays uint8 [H, W, 3] RGB of any sizes; captions: B strings, split by
        `split_words`.
        scorers: any of `SCORERS`.
        image_size: short side in pixels at scale 1; the model's own when None.
        scales, hflip: maps are averaged over scales and the mirrored image before the maximum is
        taken.
    Raises TTDError for unknown scorers and for scales or sizes that are not positive.
    """
    size = image_size or backbone.image_size
    ready = {
        id(image): prepare(image, size, scales)
        for image in {id(image): image for image in images}.values()
    }
    return score_prepared(
        backbone,
        [ready[id(image)] for image in images],
        captions,
        scorers,
        scales=scales,
        hflip=hflip,
    )


@torch.no_grad()
def score_prepared(
    backbone: Backbone,
    pictures: Sequence[Prepared],
    captions: Sequence[str],
    scorers: Sequence[str] = SCORERS,
    *,
    scales: Sequence[float] = (1.0,),
    hflip: bool = False,
) -> list[Scored]:
    """`score_batch` for images that went through `prepare` with the same scales."""
    check_settings(scorers, scales)
    words = [split_words(caption) for caption in captions]
    numbers = {
        text: i for i, text in enumerate(dict.fromkeys(word.text for row in words for word in row))
    }
    own = [[numbers[word.text] for word in row] for row in words]
    embedded = encode_texts(backbone, list(numbers))  # [U, D]
    whole = _columns(embedded, encode_texts(backbone, captions), own) if "text" in scorers else None
    results = [
        Scored(
            row,
            {name: torch.zeros(len(row)) for name in scorers},
            torch.zeros(len(row), 2, dtype=torch.long),
        )
        for row in words
    ]
    for group in _groups(pictures, own, hflip):
        index = [
            [number for row in rows for number in own[row]] for rows in group
        ]  # words of all of its captions
        found, xy = _score_pictures(
            backbone,
            [pictures[rows[0]] for rows in group],
            embedded,
            index,
            "image" in scorers,
            scales,
            hflip,
        )
        for i, rows in enumerate(group):
            start = 0
            for row in rows:
                part = slice(start, start := start + len(own[row]))
                scores = {name: values[i][part] for name, values in found.items()}
                scores |= {"text": whole[row]} if whole else {}
                results[row] = Scored(
                    words[row], {name: scores[name] for name in scorers}, xy[i, part]
                )
    return results


def check_settings(scorers: Sequence[str], scales: Sequence[float]) -> None:
    """TTDError for scorers that are not in `SCORERS` and for scales that are no positive numbers."""
    unknown = [name for name in scorers if name not in SCORERS]
    if unknown or not scorers:
        raise TTDError(
            f"unknown scorer {', '.join(unknown) or '(none)'}: choose from {', '.join(SCORERS)}"
        )
    if not scales or min(scales) <= 0:
        raise TTDError(
            f"scales must be positive numbers, got {list(scales)}; the usual ones are 1.0 0.5 1.5 2.0"
        )


def _groups(
    pictures: Sequence[Prepared], own: Sequence[list[int]], hflip: bool
) -> list[list[list[int]]]:
    """Images that can be encoded together: same size at every scale, those with most words first, none without.

    An image is the list of its captions' rows: the same `Prepared` object under several captions
    is encoded once. Sizes, not neighbours, decide what an image is resized or padded to, so
    results cannot depend on the batch.
    """
    captions: dict[int, list[int]] = {}
    for row, picture in enumerate(pictures):
        if own[row]:
            captions.setdefault(id(picture), []).append(row)
    by_shape: dict[tuple, list[list[int]]] = {}
    for rows in captions.values():
        by_shape.setdefault(tuple(scaled.shape for scaled in pictures[rows[0]].scaled), []).append(
            rows
        )
    groups = []
    for shapes, members in by_shape.items():
        members.sort(key=lambda rows: -sum(len(own[row]) for row in rows))
        pixels = max(shape[-1] * shape[-2] for shape in shapes) * (1 + hflip)
        step = max(1, FORWARD_PIXELS // pixels)
        groups += [members[start : start + step] for start in range(0, len(members), step)]
    return groups


def _score_pictures(
    backbone: Backbone,
    pictures: Sequence[Prepared],
    embedded: Tensor,
    index: list[list[int]],
    pooled: bool,
    scales: Sequence[float],
    hflip: bool,
) -> tuple[dict[str, Sequence[Tensor]], Tensor]:
    """Scores of images of one size: {"pixel", "image" if `pooled`: B rows [K]}, and nearest pixels [B, K, 2].

    embedded [U, D]; index = the rows of it that each image's words have, longest first. The
    pooled embedding is that of the scale nearest to 1.
    """
    nearest = min(range(len(scales)), key=lambda i: abs(scales[i] - 1))
    views, whole = [], None
    for i, images in enumerate(zip(*(picture.scaled for picture in pictures), strict=True)):
        more, vectors = encode_views(backbone, torch.stack(images), hflip, pooled and i == nearest)
        views += more
        whole = whole if vectors is None else vectors
    scores, cells = _pixel_scores(backbone, views, embedded, index)
    height, width = torch.tensor([picture.size for picture in pictures]).T[..., None]  # [B, 1] each
    found = {"pixel": scores} | (
        {} if whole is None else {"image": _columns(embedded, whole, index)}
    )
    return found, cells_to_pixels(cells, finest_grid(views), height, width)


def _columns(embedded: Tensor, vectors: Tensor, index: Sequence[list[int]]) -> list[Tensor]:
    """Products of chosen rows of `embedded` [U, D] with each of `vectors` [B, D] -> B tensors [K_b], on the CPU."""
    table = (embedded @ vectors.T).cpu()  # one product for all: words are shared
    return [table[rows, i] for i, rows in enumerate(index)]


def _pixel_scores(
    backbone: Backbone, views: Sequence[View], embedded: Tensor, index: list[list[int]]
) -> tuple[Tensor, Tensor]:
    """Maximum of each word's average map and its cell: [B, K] float32, [B, K] int64, on the CPU.

    embedded [U, D]; index = the rows of it that each image's words have, longest first.
    """
    counts, grid = [len(row) for row in index], finest_grid(views)
    padded = torch.tensor([row + [0] * (counts[0] - len(row)) for row in index]).to(
        embedded.device
    )  # [B, K]
    scores, cells = torch.zeros(padded.shape, device=embedded.device), torch.zeros_like(padded)
    for start in range(0, counts[0], WORDS):
        part = slice(start, start + WORDS)
        rows = sum(count > start for count in counts)  # the first ones: counts descend
        text = embedded[padded[:rows, part]]  # [rows, k, D]
        maps = average_maps(backbone, [view.first(rows) for view in views], text)
        scores[:rows, part], cells[:rows, part] = peak_cells(maps, grid)
    return scores.cpu(), cells.cpu()
