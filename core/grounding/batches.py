"""Phrases as training samples and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.grounding import Phrase, PhraseList
from ..data.grounding_view import Pixels, Seen
from ..data.images import read_image
from ..data.records import Skipped
from .run_config import QUERY


@dataclass(frozen=True)
class Asked:
    """A phrase with its image uint8 [H, W, 3] RGB."""

    phrase: Phrase
    image: Pixels


@dataclass(frozen=True)
class SeenPhrase:
    """How a sample is seen, and the text that is asked.

    states: float16 [1 + P, blocks * width], the image's known features; its pixels are then empty.
    """

    seen: Seen
    text: str
    states: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """B samples: images [B, 3, S, S] normalized, ignored bool [B, S, S], boxes cxcywh [B, 4].

    states: [B, 1 + P, blocks * width] where the images' features are known.
    """

    images: Tensor
    ignored: Tensor
    boxes: Tensor
    texts: list[str]
    states: Tensor | None = None


class PhraseSource:
    """`Source` of one or several lists of phrases, one after another."""

    def __init__(self, lists: Sequence[PhraseList]):
        self._lists = list(lists)
        self._phrases = [phrase for part in self._lists for phrase in part.phrases]

    @property
    def digest(self) -> str:
        """Changes with names, boxes and phrases."""
        return "+".join(part.digest for part in self._lists)

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Nothing: a bad line is an error."""
        return ()

    @property
    def descriptions(self) -> Sequence[str]:
        """A line about each list."""
        return [f"{part.place}: {len(part):,} phrases" for part in self._lists]

    def __len__(self) -> int:
        return len(self._phrases)

    def read(self, number: int) -> Asked:
        """Phrase `number` in [0, len). TTDError for an image that cannot be read."""
        phrase = self._phrases[number]
        return Asked(phrase, read_image(phrase.image))

    @property
    def phrases(self) -> Sequence[Phrase]:
        """All phrases, by their number."""
        return self._phrases

    def where(self, number: int) -> tuple[int, str]:
        """The phrase's number in its list, and its image."""
        phrase = self._phrases[number]
        return phrase.index, phrase.name


def asked_text(text: str, prompt: str = QUERY) -> str:
    """What the text tower gets: the phrase in its prompt, lower case."""
    return prompt.replace(QUERY, text).lower()


def collate(samples: Sequence[SeenPhrase]) -> Batch:
    """Stack samples of one canvas size."""
    known = [sample.states for sample in samples if sample.states is not None]
    return Batch(
        torch.stack([sample.seen.image for sample in samples]),
        torch.stack([sample.seen.ignored for sample in samples]),
        torch.stack([sample.seen.box for sample in samples]),
        [sample.text for sample in samples],
        torch.stack(known) if known else None,
    )
