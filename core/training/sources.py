"""Image-caption pairs as a source of training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.pairs import Pairs
from ..data.records import Skipped, read_record


@dataclass(frozen=True)
class Pair:
    """An image uint8 [H, W, 3] RGB and its caption."""

    image: npt.NDArray[np.uint8]
    text: str


class PairSource:
    """`Source` of the pairs of core/data/pairs.py."""

    def __init__(self, pairs: Pairs):
        self.pairs = pairs

    @property
    def digest(self) -> str:
        """Changes with the ids and captions."""
        return self.pairs.digest

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What the index could not use."""
        return self.pairs.skipped

    @property
    def descriptions(self) -> Sequence[str]:
        """A line about each input."""
        return self.pairs.descriptions

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, number: int) -> Pair:
        """Pair `number` in [0, len). TTDError or OSError for an image that cannot be read."""
        record = self.pairs[number]
        return Pair(read_record(record), record.text)

    def where(self, number: int) -> tuple[int, str]:
        """The pair's number in its own input, and its id."""
        record = self.pairs[number]
        return record.index, record.id
