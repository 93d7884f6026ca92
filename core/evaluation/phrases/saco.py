"""SA-Co/Gold: the official numbers, and what can be said honestly of a method without instances.

A semantic method gives one mask a phrase. Its `IL_*` numbers are as good as anybody's; its cgF1
counts one mask against every instance and is called semantic; its masks are compared with the union
of the truth besides, which is not official.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...data.labels.regions import Region, iou_matrix, nothing, region_iou, union
from ...data.phrases.saco import Pair, Prediction, Subset, regions
from ...errors import TTDError
from ...metrics.bootstrap import SEED, Floats, by_image, replicates
from ...metrics.concepts import (
    PairCounts,
    best_of,
    concept_scores,
    drawn_concepts,
    pair_counts,
    pair_sums,
)
from ...utils.shown import first_few

LEAST = 0.5  # score of a prediction that counts


class UnionIou(NamedTuple):
    """The IoU of a pair's unions, and the place of the annotator who agrees best."""

    iou: float
    annotator: int


@dataclass(frozen=True)
class SubsetScores:
    """The numbers of a subset.

    official: of `concept_scores`. pairs, positive: scored pairs, those with truth. single: share of
    the positive ones whose truth is one instance. masks: the most masks of any pair. union_iou:
    mean over `union_pairs` pairs, NaN for none; not official. unions: by pair, of those. sums:
    `pair_sums` of the scored pairs of each image, [images, M].
    """

    name: str
    official: Mapping[str, float]
    pairs: int
    positive: int
    single: float
    masks: int
    union_iou: float
    union_pairs: int
    unions: Mapping[int, UnionIou]
    sums: Floats

    @property
    def semantic(self) -> bool:
        """Whether no phrase has more than one mask."""
        return self.masks <= 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON; fractions. Without the single pairs and images."""
        own = {key: value for key, value in vars(self).items() if key not in ("unions", "sums")}
        return {**own, "semantic": self.semantic, "official": dict(self.official)}


def score_subset(
    subset: Subset,
    predictions: Mapping[int, Sequence[Prediction]],
    progress: Callable[[int], None] = lambda done: None,
) -> SubsetScores:
    """Score the predictions of a subset.

    TTDError: predictions of pairs that it does not have, masks that are damaged or of another size
    than the image, no pair to score.
    """
    lost = [str(key) for key in sorted(predictions.keys() - subset.pairs.keys())]
    if lost:
        raise TTDError(
            f"{subset.name}: predictions of {len(lost)} pairs that it does not have "
            f"({first_few(lost, 3)}); image_id is the id of a pair"
        )
    scored, semantic = ({pair.id for pair in own} for own in (subset.scored, subset.semantic))
    if not scored:
        raise TTDError(f"{subset.name}: no pair whose instances are all marked by every annotator")
    counts: list[PairCounts] = []
    files: list[str] = []
    most = 0
    unions: dict[int, UnionIou] = {}
    for pair in subset.pairs.values():
        progress(1)
        found = _found(predictions.get(pair.id, ()), pair)
        most = max(most, len(found))
        if pair.id in scored:
            counts.append(_counts(subset, pair, found))
            files.append(pair.file)
        if pair.id in semantic and (own := _union_iou(subset, pair, found)) is not None:
            unions[pair.id] = own
    return _summary(subset, counts, by_image(files, pair_sums(counts)), unions, most)


def _found(predictions: Sequence[Prediction], pair: Pair) -> list[Region]:
    """The masks that count."""
    return regions(sure(predictions), pair, "predictions")


def sure(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The run lengths of the masks that count."""
    return [one.mask for one in predictions if one.score >= LEAST]


def false_alarms(subset: Subset, predictions: Mapping[int, Sequence[Prediction]]) -> list[Pair]:
    """The scored pairs that have a mask and in which no annotator marked anything."""
    found = []
    for pair in subset.scored:
        marked = any(one.masks.get(pair.id) or one.crowds.get(pair.id) for one in subset.annotators)
        if not marked and sure(predictions.get(pair.id, ())):
            found.append(pair)
    return found


def _counts(subset: Subset, pair: Pair, found: Sequence[Region]) -> PairCounts:
    """The counts against the annotator who agrees best."""
    every = [pair_counts(iou_matrix(found, one.objects(pair))) for one in subset.annotators]
    return every[best_of(every)]


def _union_iou(subset: Subset, pair: Pair, found: Sequence[Region]) -> UnionIou | None:
    """The best IoU of all that was found with all that an annotator marked; None: none did."""
    whole = union(found) if found else nothing(pair.size)
    best = None
    for place, one in enumerate(subset.annotators):
        if not (marked := one.whole(pair)):
            continue
        iou = region_iou(whole, union(marked))
        if best is None or iou > best.iou:
            best = UnionIou(iou, place)
    return best


def _summary(
    subset: Subset,
    counts: Sequence[PairCounts],
    sums: Floats,
    unions: Mapping[int, UnionIou],
    most: int,
) -> SubsetScores:
    positive = [one for one in counts if one.truths]
    single = [one.truths == 1 for one in positive]
    overlaps = [one.iou for one in unions.values()]
    return SubsetScores(
        name=subset.name,
        official=concept_scores(counts),
        pairs=len(counts),
        positive=len(positive),
        single=float(np.mean(single)) if single else float("nan"),
        masks=most,
        union_iou=float(np.mean(overlaps)) if overlaps else float("nan"),
        union_pairs=len(overlaps),
        unions=unions,
        sums=sums,
    )


def average(subsets: Sequence[SubsetScores]) -> dict[str, float]:
    """The plain mean of the subsets' official numbers and of their union IoU, as published."""
    names = subsets[0].official
    means = {name: float(np.mean([one.official[name] for one in subsets])) for name in names}
    return means | {"union_iou": float(np.mean([one.union_iou for one in subsets]))}


def drawn_scores(subsets: Sequence[SubsetScores]) -> list[Floats]:
    """cgF1, IL_MCC and pmF1 of every draw of the images of each subset, [draws, 3] each.

    An image is drawn with all its phrases. Every subset has draws of its own: the same ones would
    tie the images of two subsets to each other in their mean.
    """
    places = enumerate(subsets)
    return [replicates(one.sums, drawn_concepts, seed=SEED + place) for place, one in places]
