"""A batch in embedding space: texts split into words, images and texts encoded, their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..backbones.readouts import cosine_maps
from ..data.words import is_stopword, split_words, tag_key
from ..errors import TTDError
from ..text.encode import encode_texts

# Words of one caption: longer ones are no captions, and all maps of a batch are held at once.
MAX_WORDS = 64


@dataclass(frozen=True)
class TextBatch:
    """The texts of B captions. words: the U distinct ones.

    index [B, K] into them, valid [B, K] (False: padding), stop [B, K]: function words. K is the
    largest number of words in a caption, at least 1. others [R] into them: words of other captions;
    foreign bool [B, R]: of those the ones that are not in the caption.
    """

    captions: list[str]
    words: list[str]
    index: Tensor
    valid: Tensor
    stop: Tensor
    others: Tensor
    foreign: Tensor


def gather_texts(captions: Sequence[str], others: Sequence[str] = ()) -> TextBatch:
    """Split B captions into words, the first `MAX_WORDS` of each; each distinct word once.

    others: R words of other captions.
    """
    rows = [_words(caption) for caption in captions]
    distinct = dict.fromkeys(chain(chain.from_iterable(rows), others))
    numbers = {word: i for i, word in enumerate(distinct)}
    longest = max([1, *map(len, rows)])
    index = torch.zeros(len(rows), longest, dtype=torch.long)
    valid = torch.zeros(index.shape, dtype=torch.bool)
    stop = torch.zeros(index.shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        index[i, : len(row)] = torch.tensor([numbers[word] for word in row], dtype=torch.long)
        valid[i, : len(row)] = True
        stop[i, : len(row)] = torch.tensor([is_stopword(word) for word in row], dtype=torch.bool)
    elsewhere = torch.tensor([numbers[word] for word in others], dtype=torch.long)
    # Never no row at all to index.
    words = list(numbers) or [""]
    foreign = _foreign(captions, others)
    return TextBatch(list(captions), words, index, valid, stop, elsewhere, foreign)


def _foreign(captions: Sequence[str], others: Sequence[str]) -> Tensor:
    """Which of the other words are nowhere in a caption, bool [B, R]; compared as tags are."""
    foreign = torch.ones(len(captions), len(others), dtype=torch.bool)
    if not others:
        return foreign
    keys = [tag_key(word) for word in others]
    for i, caption in enumerate(captions):
        own = {tag_key(word.text) for word in split_words(caption)}
        foreign[i] = torch.tensor([key not in own for key in keys])
    return foreign


def _words(caption: str) -> list[str]:
    return [word.text for word in split_words(caption)[:MAX_WORDS]]


@dataclass(frozen=True)
class Embedded:
    """A batch in embedding space, float32, L2-normalized.

    pixels [B, D, h, w], words [U, D], captions [B, D]. pooled [B, D]: the whole images, where
    something needs them.
    """

    pixels: Tensor
    words: Tensor
    captions: Tensor
    pooled: Tensor | None = None


def embed(backbone: Backbone, images: Tensor, texts: TextBatch, pooled: bool = False) -> Embedded:
    """Encode normalized images [B, 3, H, W] once, every word and caption once, with gradients.

    H and W must be multiples of the patch: cells of nothing but padding would count. TTDError
    otherwise.
    """
    if any(side % backbone.patch for side in images.shape[-2:]):
        raise TTDError(
            f"training images of {tuple(images.shape[-2:])} pixels: choose --image as a multiple "
            f"of the patch ({backbone.patch})"
        )
    whole = None
    if pooled:
        pixels, whole = backbone.encode_both(images)
        whole = F.normalize(whole.float(), dim=-1)
    else:
        pixels = backbone.encode_pixels(images)
    # Sorted by length in there, so that short words stay cheap.
    encoded = encode_texts(backbone, texts.words + texts.captions)
    words, captions = torch.split(encoded, [len(texts.words), len(texts.captions)])
    return Embedded(F.normalize(pixels.float(), dim=1), words, captions, whole)


@dataclass(frozen=True)
class Maps:
    """Cosine maps in [-1, 1]: words [B, K, h, w] (padding: 0), captions [B, h, w]."""

    words: Tensor
    captions: Tensor


def similarity_maps(embedded: Embedded, texts: TextBatch) -> Maps:
    """The maps of every caption and of its own words in its own image."""
    device = embedded.pixels.device
    own = embedded.words[texts.index.to(device)] * texts.valid.to(device)[..., None]  # [B, K, D]
    both = torch.cat([own, embedded.captions[:, None]], 1)
    maps = cosine_maps(embedded.pixels, both)
    return Maps(maps[:, :-1], maps[:, -1])


def nearest_to_others(embedded: Embedded, texts: TextBatch) -> Tensor:
    """Cosine of every image's nearest pixel with each of the R other words, [B, R]."""
    others = embedded.words[texts.others.to(embedded.words.device)]
    # As texts of each image: with one set for all, einsum copies the pixels and keeps the copy.
    each = others.expand(len(embedded.pixels), -1, -1)
    return cosine_maps(embedded.pixels, each).amax((2, 3))
