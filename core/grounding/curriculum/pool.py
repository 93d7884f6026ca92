"""Training pools: which labels of which sources, by whose reliability.

A pool says what a model is trained on, and by its name what it is: "template>0.5 by relation" are
the labels of `template` that a model trained on all of `relation` agrees with by an IoU above 0.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data.grounding import Box, Phrase, PhraseList
from ...errors import TTDError

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Labels of one source: all, or those whose reliability by `measurer` is above `threshold`."""

    source: str
    measurer: Pool | None = None
    threshold: float = 0.0

    @property
    def name(self) -> str:
        """Such as "template" or "template>0.5 by relation"."""
        if self.measurer is None:
            return self.source
        by = self.measurer.name
        return f"{self.source}>{self.threshold:g} by {by if self.measurer.whole else f'[{by}]'}"


@dataclass(frozen=True)
class Pool:
    """What a model is trained on: parts of different sources, in the order they were taken up."""

    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """The parts' names."""
        return " + ".join(part.name for part in self.parts)

    @property
    def whole(self) -> bool:
        """Whether it is one source, all of it."""
        return len(self.parts) == 1 and self.parts[0].measurer is None

    @property
    def key(self) -> str:
        """A short name for files: it follows from the name alone."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:10]
        sources = "+".join(part.source for part in self.parts)
        return f"{sources[:60]}-{digest}"

    def with_part(self, source: str, measurer: Pool, threshold: float) -> Pool:
        """This pool and the reliable labels of one more source."""
        return Pool((*self.parts, Part(source, measurer, threshold)))


def whole(source: str) -> Pool:
    """All labels of a source."""
    return Pool((Part(source),))


def reliable(reliability: Values, threshold: float) -> npt.NDArray[np.bool_]:
    """Which of N labels are kept: reliability [N] strictly above the threshold.

    With threshold 0 labels without any overlap are dropped. Errors: TTDError for values that are
    no IoU.
    """
    values = np.asarray(reliability, np.float64)
    if len(values) and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise TTDError("reliabilities must be IoUs in [0, 1]")
    kept: npt.NDArray[np.bool_] = values > threshold
    return kept


def phrases_of(
    pool: Pool, sources: Mapping[str, PhraseList], reliability: Callable[[Pool, str], Values]
) -> list[Phrase]:
    """The labels of a pool, numbered anew.

    reliability(measurer, source): [N] of the source's labels. Labels that occur twice (image, box
    and phrase) are kept once.
    """
    chosen: list[Phrase] = []
    for part in pool.parts:
        phrases = sources[part.source].phrases
        if part.measurer is None:
            chosen += phrases
            continue
        kept = reliable(reliability(part.measurer, part.source), part.threshold)
        chosen += [phrases[i] for i in np.flatnonzero(kept).tolist()]
    return [replace(item, index=number) for number, item in enumerate(without_copies(chosen))]


def without_copies(phrases: Sequence[Phrase]) -> list[Phrase]:
    """The first of every (image, box, phrase)."""
    first: dict[tuple[str, Box, str], Phrase] = {}
    for phrase in phrases:
        first.setdefault((str(phrase.image), phrase.box, phrase.text), phrase)
    return list(first.values())


def as_list(place: Path, phrases: Sequence[Phrase]) -> PhraseList:
    """Phrases as a list to train on. TTDError when there are none."""
    if not phrases:
        raise TTDError(f"{place}: no label left to train on")
    return PhraseList(place, phrases)
