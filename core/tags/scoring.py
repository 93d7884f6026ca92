"""Scores of the words of captions in their images, many at a time: which words does it show?

    image = read_image("dog.jpg")
    score_batch(load_backbone("tiny"), [image], ["a dog runs"])[0].scores["pixel"]    # [3]

Scorers: `pixel` = the word's cosine with its nearest pixel (TTD); `image` = with the pooled image
embedding; `text` = with the embedding of the whole caption. Every distinct word and every image
of a batch is encoded once; nothing is kept between batches, and a caption's scores depend on its
batch by rounding only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.words import Word, split_words
from ..maps.encode import (
    EncodedView,
    average_maps,
    cells_to_pixels,
    encode_views,
    finest_grid,
    peak_cells,
)
from ..maps.views import Prepared, Views, prepare, same_shapes
from ..text.encode import encode_texts
from .protocol import SCORERS, check_scorers

# Maps of an image at a time: a caption of 3,000 words needs no more memory than one of 32.
WORDS = 32


@dataclass(frozen=True)
class Scored:
    """The K words of one caption.

    scores: raw scores [K] (float32, CPU) by scorer. xy: nearest pixels (x, y), int64 [K, 2].
    """

    words: list[Word]
    scores: dict[str, Tensor]
    xy: Tensor


def score_batch(
    backbone: Backbone,
    images: Sequence[npt.NDArray[np.uint8]],
    captions: Sequence[str],
    scorers: Sequence[str] = SCORERS,
    views: Views | None = None,
) -> list[Scored]:
    """Score the words of B captions in their B images.

    Args:
        images: B arrays uint8 [H, W, 3] RGB of any sizes; an object that comes several times is
            encoded once.
        captions: B strings, split by `split_words`.
        scorers: any of `SCORERS`; TTDError for others.
        views: what is looked at; None is the model's own size at scale 1.
    """
    views = views or Views(backbone.image_size)
    distinct = {id(image): image for image in images}
    ready = {key: prepare(image, views) for key, image in distinct.items()}
    return score_prepared(
        backbone, [ready[id(image)] for image in images], captions, views, scorers
    )


@torch.no_grad()
def score_prepared(
    backbone: Backbone,
    prepared: Sequence[Prepared],
    captions: Sequence[str],
    views: Views,
    scorers: Sequence[str] = SCORERS,
) -> list[Scored]:
    """`score_batch` for images that went through `prepare` with these views."""
    check_scorers(tuple(scorers))
    words = [split_words(caption) for caption in captions]
    numbers: dict[str, int] = {}  # of the distinct words, as they come
    own = [_numbered(row, numbers) for row in words]
    embedded = encode_texts(backbone, list(numbers))  # [U, D]
    results = [_unscored(row, scorers) for row in words]
    asked = _ask(prepared, own)
    for group in same_shapes([one.image.shapes for one in asked], 1 + views.hflip):
        some = [asked[i] for i in group]
        found, xy = _score_images(backbone, some, embedded, views, "image" in scorers)
        for i, one in enumerate(some):
            _share(results, one, {name: rows[i] for name, rows in found.items()}, xy[i])
    if "text" in scorers:
        whole = encode_texts(backbone, captions)
        for result, scores in zip(results, _columns(embedded, whole, own), strict=True):
            result.scores["text"] = scores
    return results


def _numbered(words: Sequence[Word], numbers: dict[str, int]) -> list[int]:
    """The number of each word in `numbers`, which grows by those that are new."""
    return [numbers.setdefault(word.text, len(numbers)) for word in words]


def _unscored(words: list[Word], scorers: Sequence[str]) -> Scored:
    """The entry of a caption whose image has not been looked at; it stays so without words."""
    zeros = {name: torch.zeros(len(words)) for name in scorers}
    return Scored(words, zeros, torch.zeros(len(words), 2, dtype=torch.long))


@dataclass(frozen=True)
class _Asked:
    """An image, the rows of its captions, and their words as rows of the embedded words."""

    image: Prepared
    captions: dict[int, int]  # number of words by row of the caption
    words: list[int]


def _ask(prepared: Sequence[Prepared], own: Sequence[list[int]]) -> list[_Asked]:
    """The images that have words to look for, those with most words first.

    The same `Prepared` object under several captions is one image. own: the words of each caption.
    """
    by_image: dict[int, list[int]] = {}
    for row, image in enumerate(prepared):
        if own[row]:
            by_image.setdefault(id(image), []).append(row)
    asked = []
    for rows in by_image.values():
        words = list(itertools.chain.from_iterable(own[row] for row in rows))
        counts = {row: len(own[row]) for row in rows}
        asked.append(_Asked(prepared[rows[0]], counts, words))
    return sorted(asked, key=lambda one: -len(one.words))


def _share(results: list[Scored], asked: _Asked, found: dict[str, Tensor], xy: Tensor) -> None:
    """Give every caption of an image its own words' scores [K] of `found` and pixels of xy."""
    start = 0
    for row, count in asked.captions.items():
        own = slice(start, start + count)
        scores = results[row].scores
        scores |= {name: values[own] for name, values in found.items() if name in scores}
        results[row] = replace(results[row], xy=xy[own])
        start += count


def _score_images(
    backbone: Backbone, asked: Sequence[_Asked], embedded: Tensor, views: Views, pooled: bool
) -> tuple[dict[str, Sequence[Tensor]], Tensor]:
    """Scores of B images of one size: {"pixel": B rows [K]}, "image" too if `pooled`.

    Also the nearest pixels (x, y), int64 [B, K, 2]. asked: most words first. embedded [U, D].
    """
    index = [one.words for one in asked]
    encoded, whole = encode_views(backbone, [one.image for one in asked], views, pooled)
    scores, cells = _pixel_scores(backbone, encoded, embedded, index)
    found: dict[str, Sequence[Tensor]] = {"pixel": list(scores)}
    if whole is not None:
        found["image"] = _columns(embedded, whole, index)
    height, width = torch.tensor([one.image.size for one in asked]).T[..., None]  # [B, 1] each
    return found, cells_to_pixels(cells, finest_grid(encoded), height, width)


def _columns(embedded: Tensor, vectors: Tensor, index: Sequence[list[int]]) -> list[Tensor]:
    """Cosines of each vector of [B, D] with its own words: B tensors [K_b], on the CPU.

    embedded [U, D]: all words; index: the rows of it that are a vector's own.
    """
    table = (embedded @ vectors.T).cpu()  # one product for all: words are shared
    return [table[rows, i] for i, rows in enumerate(index)]


def _pixel_scores(
    backbone: Backbone, views: Sequence[EncodedView], embedded: Tensor, index: list[list[int]]
) -> tuple[Tensor, Tensor]:
    """Maximum of each word's average map and its cell: float32 and int64 [B, K], on the CPU.

    embedded [U, D]; index: the rows of it that each image's words have, longest first.
    """
    counts, grid = [len(row) for row in index], finest_grid(views)
    padded = torch.tensor([row + [0] * (counts[0] - len(row)) for row in index])  # [B, K]
    padded = padded.to(embedded.device)
    scores, cells = torch.zeros(padded.shape, device=embedded.device), torch.zeros_like(padded)
    for start in range(0, counts[0], WORDS):
        part = slice(start, start + WORDS)
        rows = sum(count > start for count in counts)  # the first ones: counts descend
        text = embedded[padded[:rows, part]]  # [rows, k, D]
        maps = average_maps(backbone, [view.first(rows) for view in views], text)
        scores[:rows, part], cells[:rows, part] = peak_cells(maps, grid)
    return scores.cpu(), cells.cpu()
