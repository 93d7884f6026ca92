"""Scores of the words of captions in their pictures, many at a time: which words does the picture show?

    score_batch(load_backbone("tiny"), [read_image("dog.jpg")], ["a dog runs"])[0].scores["pixel"]    # [3]

Scorers: `pixel` = the word's cosine with its nearest pixel (TTD); `image` = with the pooled image embedding; `text` =
with the embedding of the whole caption. Every distinct word of a batch is encoded once, nothing is kept between
batches, and a caption's scores depend on its batch by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.backbones.base import Backbone
from core.errors import TTDError
from core.images import resized_tensor
from core.similarity_maps import View, average_maps, cells_to_pixels, encode_views, finest_grid, peak_cells
from core.words import Word, split_words

SCORERS = ("pixel", "image", "text")
FORWARD_PIXELS = 32 * 224 * 224  # in one forward pass of the image tower: bounds memory whatever sizes are asked for
TEXTS = 256  # encoded at a time
WORDS = 32  # maps of a picture at a time: a caption of 3,000 words needs no more memory than one of 32


@dataclass(frozen=True)
class Scored:
    """The K words of one caption: raw scores [K] (float32, CPU) by scorer, nearest pixels xy [K, 2] (int64)."""

    words: list[Word]
    scores: dict[str, Tensor]
    xy: Tensor


@dataclass(frozen=True)
class Prepared:
    """A picture ready to be encoded: its own (H, W), and float [3, h, w] in [0, 1] for every scale."""

    size: tuple[int, int]
    scaled: tuple[Tensor, ...]


def prepare(image: np.ndarray, image_size: int, scales: Sequence[float] = (1.0,)) -> Prepared:
    """Resize a picture uint8 [H, W, 3] to every scale: short side `image_size * scale`. Safe to call in threads."""
    return Prepared(image.shape[:2], tuple(resized_tensor(image, round(image_size * scale)) for scale in scales))


def score_batch(backbone: Backbone, images: Sequence[np.ndarray], captions: Sequence[str],
                scorers: Sequence[str] = SCORERS, *, image_size: int | None = None,
                scales: Sequence[float] = (1.0,), hflip: bool = False) -> list[Scored]:
    """Score the words of B captions in their B pictures.

    Args:
        images: B arrays uint8 [H, W, 3] RGB of any sizes; captions: B strings, split by `split_words`.
        scorers: any of `SCORERS`.
        image_size: short side in pixels at scale 1; the model's own when None.
        scales, hflip: maps are averaged over scales and the mirrored picture before the maximum is taken.
    Raises TTDError for unknown scorers and for scales or sizes that are not positive.
    """
    prepared = [prepare(image, image_size or backbone.image_size, scales) for image in images]
    return score_prepared(backbone, prepared, captions, scorers, scales=scales, hflip=hflip)


@torch.no_grad()
def score_prepared(backbone: Backbone, pictures: Sequence[Prepared], captions: Sequence[str],
                   scorers: Sequence[str] = SCORERS, *, scales: Sequence[float] = (1.0,),
                   hflip: bool = False) -> list[Scored]:
    """`score_batch` for pictures that went through `prepare` with the same scales."""
    check_settings(scorers, scales)
    words = [split_words(caption) for caption in captions]
    numbers = {text: i for i, text in enumerate(dict.fromkeys(word.text for row in words for word in row))}
    embedded = encode_texts(backbone, list(numbers))  # [U, D]
    whole = encode_texts(backbone, captions) if "text" in scorers else None  # [B, D]
    whole_scale = min(range(len(scales)), key=lambda i: abs(scales[i] - 1)) if "image" in scorers else None
    results: list[Scored | None] = [Scored([], {name: torch.zeros(0) for name in scorers},
                                           torch.zeros(0, 2, dtype=torch.long)) for _ in words]
    for rows in _groups(pictures, words, hflip):
        index = _padded([[numbers[word.text] for word in words[row]] for row in rows]).to(embedded.device)
        views, pooled = _encode(backbone, [pictures[row] for row in rows], hflip, whole_scale)
        scores, cells = _pixel_scores(backbone, views, embedded, index, [len(words[row]) for row in rows])
        found = {"pixel": scores}
        if pooled is not None:
            found["image"] = torch.einsum("bkd,bd->bk", embedded[index], pooled)
        if whole is not None:
            found["text"] = torch.einsum("bkd,bd->bk", embedded[index], whole[rows])
        sizes = torch.tensor([pictures[row].size for row in rows])
        xy = cells_to_pixels(cells, finest_grid(views), sizes[:, :1], sizes[:, 1:])  # [b, K, 2]
        found = {name: found[name].cpu() for name in scorers}
        for i, row in enumerate(rows):
            count = len(words[row])
            results[row] = Scored(words[row], {name: found[name][i, :count] for name in scorers}, xy[i, :count])
    return results


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Words or captions as they stand -> [N, D] float32 of unit length, on the backbone's device.

    Short texts are encoded with short ones: a causal text tower then skips the padding. A text longer than the
    model's context is cut by its tokenizer.
    """
    tokens = backbone.tokenize(texts) if texts else torch.zeros(0, 1, dtype=torch.long, device=backbone.device)
    order = (tokens != 0).sum(1).argsort(stable=True)
    encoded = torch.cat([backbone.encode_tokens(tokens[rows]) for rows in order.split(TEXTS)])
    return F.normalize(torch.empty_like(encoded, dtype=torch.float32).index_copy_(0, order, encoded.float()), dim=-1)


def check_settings(scorers: Sequence[str], scales: Sequence[float]) -> None:
    """TTDError for scorers that are not in `SCORERS` and for scales that are no positive numbers."""
    unknown = [name for name in scorers if name not in SCORERS]
    if unknown or not scorers:
        raise TTDError(f"unknown scorer {', '.join(unknown) or '(none)'}: choose from {', '.join(SCORERS)}")
    if not scales or min(scales) <= 0:
        raise TTDError(f"scales must be positive numbers, got {list(scales)}; the usual ones are 1.0 0.5 1.5 2.0")


def _groups(pictures: Sequence[Prepared], words: Sequence[list[Word]], hflip: bool) -> list[list[int]]:
    """Rows that can be encoded together (same size at every scale, some words), longest captions first.

    Sizes, not neighbours, decide what a picture is resized or padded to, so results cannot depend on the batch.
    """
    by_shape: dict[tuple, list[int]] = {}
    for row, picture in enumerate(pictures):
        if words[row]:
            by_shape.setdefault(tuple(scaled.shape for scaled in picture.scaled), []).append(row)
    groups = []
    for shapes, rows in by_shape.items():
        rows.sort(key=lambda row: -len(words[row]))
        pixels = max(shape[-1] * shape[-2] for shape in shapes) * (1 + hflip)
        step = max(1, FORWARD_PIXELS // pixels)
        groups += [rows[start : start + step] for start in range(0, len(rows), step)]
    return groups


def _encode(backbone: Backbone, pictures: Sequence[Prepared], hflip: bool,
            whole_scale: int | None) -> tuple[list[View], Tensor | None]:
    """Views of all scales of pictures of one size, and their pooled embeddings [B, D] at scale `whole_scale`."""
    views, pooled = [], None
    for i, images in enumerate(zip(*(picture.scaled for picture in pictures), strict=True)):
        more, whole = encode_views(backbone, torch.stack(images), hflip, pooled=i == whole_scale)
        views += more
        pooled = pooled if whole is None else whole
    return views, pooled


def _pixel_scores(backbone: Backbone, views: Sequence[View], embedded: Tensor, index: Tensor,
                  counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Maximum of each word's average map and its cell: [B, K] float32, [B, K] int64.

    embedded [U, D]; index [B, K] into it, padded; counts = words of each picture, descending.
    """
    scores = torch.zeros(index.shape, device=index.device)
    cells = torch.zeros_like(index)
    grid = finest_grid(views)
    for start in range(0, index.shape[1], WORDS):
        part = slice(start, start + WORDS)
        rows = sum(count > start for count in counts)  # the first ones: counts descend
        text = embedded[index[:rows, part]]  # [rows, k, D]
        maps = average_maps(backbone, [view.first(rows) for view in views], text)
        scores[:rows, part], cells[:rows, part] = peak_cells(maps, grid)
    return scores, cells


def _padded(rows: list[list[int]]) -> Tensor:
    """Lists of numbers -> [B, K] int64, padded with 0."""
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])
