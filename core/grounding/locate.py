"""Boxes and scores for lists of phrases; towers run once per image for all its phrases."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.grounding import Phrase
from ..data.grounding_view import Seen, view
from ..data.images import read_image
from ..evaluation.grounding import breakdown
from ..metrics.boxes import Values, box_scores
from ..utils.finite import check_finite
from ..utils.prefetch import prefetch
from .losses import box_iou
from .predict import Grounder

if TYPE_CHECKING:
    from ..training.distributed import Ranks


Numbered = tuple[int, Phrase]


@dataclass(frozen=True)
class Located:
    """A phrase, the box found for it (corners in pixels) and its IoU with the true one.

    number: place of the phrase in the list asked; share: area of the true box as a share of the
    image.
    """

    number: int
    phrase: Phrase
    box: tuple[float, float, float, float]
    iou: float
    share: float


def locate_phrases(
    grounder: Grounder, phrases: Sequence[Phrase], batch: int = 64, workers: int = 2
) -> Generator[Located, None, None]:
    """The box of every phrase, image by image, in the order of the images' first phrases.

    batch: images through the tower at a time. The IoU is that of CLIP-VG: on the canvas, the
    prediction cut to it.
    Errors: TTDError naming an image that cannot be read.
    """
    groups: dict[str, list[Numbered]] = {}
    for number, phrase in enumerate(phrases):
        groups.setdefault(str(phrase.image), []).append((number, phrase))
    parts = [list(groups.values())[i : i + batch] for i in range(0, len(groups), batch)]
    size = grounder.model.config.image_size

    def read(part: list[list[Numbered]]) -> list[Seen]:
        """The images of a batch as the tower sees them."""
        return [view(read_image(group[0][1].image), size) for group in part]

    with closing(prefetch(read, parts, 2, workers)) as ahead:
        for part, views in zip(parts, ahead, strict=True):
            yield from _locate(grounder, part, views)


def _locate(
    grounder: Grounder, part: Sequence[Sequence[Numbered]], views: Sequence[Seen]
) -> Iterator[Located]:
    images = grounder.encode_views(views)
    owners = [owner for owner, group in enumerate(part) for _ in group]
    asked = [item for group in part for item in group]
    canvas = grounder.locate_on_canvas(images, [phrase.text for _, phrase in asked], owners).cpu()
    for (_, phrase), box in zip(asked, canvas, strict=True):
        check_finite(box, phrase.name, "the grounder's weights do not fit its configuration")
    targets = [_target(views[owner], item[1]) for owner, item in zip(owners, asked, strict=True)]
    ious = box_iou(canvas, torch.stack(targets)).tolist()
    for owner, (number, phrase), box, iou in zip(owners, asked, canvas, ious, strict=True):
        place = images.placements[owner]
        left, top, right, bottom = place.to_pixels(box).tolist()
        true = phrase.box
        area = (true[2] - true[0]) * (true[3] - true[1]) / (place.width * place.height)
        yield Located(number, phrase, (left, top, right, bottom), iou, area)


def _target(seen: Seen, phrase: Phrase) -> torch.Tensor:
    """The true box on the canvas, cxcywh float32 [4]."""
    place = seen.placement
    left, top, right, bottom = (value * place.ratio for value in phrase.box)
    x, y = (left + right) / 2 + place.left, (top + bottom) / 2 + place.top
    return torch.tensor([x, y, right - left, bottom - top]) / place.size


def locate_sharded(
    grounder: Grounder, phrases: Sequence[Phrase], ranks: Ranks, batch: int = 64
) -> list[Located]:
    """All phrases' boxes, each found by one process: exact for any number of them.

    Every process returns all of them, in the order of `phrases`.
    """
    own = phrases[ranks.rank :: ranks.world]
    parts = ranks.gather_objects(list(locate_phrases(grounder, own, batch)))
    found: list[Located] = []
    for rank, part in enumerate(parts):
        found += [replace(item, number=item.number * ranks.world + rank) for item in part]
    return sorted(found, key=lambda item: item.number)


def scores_of(found: Sequence[Located]) -> dict[str, float]:
    """`box_scores` of the results; `clean_acc@0.5`: on labels that reviewers found right."""
    ious = np.array([item.iou for item in found])
    scores = box_scores(np.minimum(ious, 1.0))
    clean = np.array([item.iou for item in found if item.phrase.clean])
    if len(clean):
        scores["clean_acc@0.5"] = float((clean >= 0.5).mean())
    return scores


def groups_of(found: Sequence[Located]) -> dict[str, dict[str, tuple[int, float]]]:
    """Phrases and Acc@0.5 by length of the phrase and size of the true box."""
    ious: Values = np.array([item.iou for item in found], np.float64)
    shares: Values = np.array([item.share for item in found], np.float64)
    return breakdown(ious, shares, [item.phrase.text for item in found])
