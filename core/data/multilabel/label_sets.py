"""A set of images with their classes, and the readings of its labels that papers score on.

VOC marks a class as difficult in an image where all its objects are. Papers differ in what they
make of that, and in which images they score, so mAPs of two papers are comparable only on one
`Variant`; a set carries all that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ...utils.files import is_there
from ...utils.shown import first_few

Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Variant:
    """One reading of a set's labels.

    name, meaning: for the table. rows: which images it scores, bool [N]. truth: positives, bool
    [N, C]. scored: entries that count, bool [N, C]. published: images and positives of the list
    that it is to equal, where known.
    """

    name: str
    meaning: str
    rows: Flags
    truth: Flags
    scored: Flags
    published: tuple[int, int] | None = None

    @property
    def images(self) -> int:
        """How many images are scored."""
        return int(self.rows.sum())

    @property
    def positives(self) -> int:
        """How many entries are positive and scored."""
        return int((self.truth & self.scored)[self.rows].sum())

    def only(self, rows: Flags) -> Variant:
        """The same for a part of the set's images: bool [N]."""
        return replace(self, rows=self.rows[rows], truth=self.truth[rows], scored=self.scored[rows])


@dataclass(frozen=True)
class LabelSet:
    """N images and C classes.

    key: its name on the command line, "own" for a list of one's own. classes: the release's own
    names. ids, images: of the N images. train: unlabelled images of its training split.
    """

    key: str
    title: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    images: tuple[Path, ...]
    variants: tuple[Variant, ...]
    train: tuple[Path, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Flags) -> LabelSet:
        """A part of the images: bool [N]."""
        kept = np.flatnonzero(rows).tolist()
        return replace(
            self,
            ids=tuple(self.ids[row] for row in kept),
            images=tuple(self.images[row] for row in kept),
            variants=tuple(variant.only(rows) for variant in self.variants),
        )

    def first(self, count: int | None) -> LabelSet:
        """The first `count` images; all for None."""
        return self if count is None else self.take(np.arange(len(self)) < count)

    def scored(self) -> LabelSet:
        """Without the images that no variant scores."""
        used = np.any([variant.rows for variant in self.variants], axis=0)
        return self if used.all() else self.take(used)

    def there(self, allow_missing: bool) -> LabelSet:
        """Without the images that are not on the disk. TTDError unless that is allowed."""
        present = np.array([is_there(path) for path in self.images], bool)
        if present.all():
            return self
        lost = [str(self.images[row]) for row in np.flatnonzero(~present).tolist()]
        if not allow_missing or not present.any():
            raise TTDError(
                f"{self.title}: {len(lost)} of {len(self)} images are missing "
                f"({first_few(lost, 3)}); check --root, or add --allow-missing to score the others"
            )
        return self.take(present)


def plain_variant(
    name: str,
    meaning: str,
    truth: Flags,
    rows: Flags | None = None,
    published: tuple[int, int] | None = None,
) -> Variant:
    """A variant in which every entry of truth bool [N, C] counts; rows: bool [N], all for None."""
    chosen = np.ones(len(truth), bool) if rows is None else rows
    return Variant(name, meaning, chosen, truth, np.ones_like(truth), published)


def any_class(truth: Flags) -> Flags:
    """Which images show any class: bool [N, C] -> bool [N]."""
    there: Flags = np.any(truth, axis=1)
    return there


def flags_of(rows: Sequence[Sequence[int]], classes: int) -> Flags:
    """Lists of class numbers, one for each of N images -> bool [N, C]."""
    flags = np.zeros((len(rows), classes), bool)
    for row, numbers in enumerate(rows):
        flags[row, list(numbers)] = True
    return flags
