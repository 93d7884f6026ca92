"""Panoptic Narrative Grounding: recall of phrases, pooled over a split, beside published rows.

Ours: masks at the image's own size and every phrase by itself. The authors compare soft masks at
256 x 256 and merge neighbouring phrases of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.labels.rle import decode
from ...data.phrases.png import Narrative, NarrativePhrase
from ...errors import TTDError
from ...metrics.phrases import phrase_scores
from ...utils.json_lines import json_rows

Mask = npt.NDArray[np.bool_]
Masks = dict[tuple[int, int], Mapping[str, Any]]  # run lengths by (narrative, phrase)
GROUPS: dict[str, Callable[[NarrativePhrase], bool]] = {
    "all": lambda phrase: True,
    "things": lambda phrase: phrase.thing,
    "stuff": lambda phrase: not phrase.thing,
    "singular": lambda phrase: not phrase.plural,
    "plural": lambda phrase: phrase.plural,
}
FORM = 'a line is {"narrative": number, "phrase": number, "segmentation": RLE}'

# Average recall in percent; the READMEs of PNG and XPNG. All are supervised.
PUBLISHED: dict[str, tuple[float, ...]] = {
    "oracle of PNG's proposals": (64.4, 67.3, 60.4, 64.8, 60.7),
    "PNG baseline": (55.4, 56.2, 54.3, 56.2, 48.8),
    "PPMN": (59.4, 57.2, 62.5, 60.0, 54.0),
    "XPNG": (63.3, 61.1, 66.2, 64.0, 56.4),
}


@dataclass(frozen=True)
class PhraseIou:
    """A phrase and the IoU of its mask with the truth."""

    phrase: NarrativePhrase
    iou: float


def mask_iou(first: Mask, second: Mask) -> float:
    """IoU of two masks [H, W]; 0 where both are empty."""
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 0.0


def narrative_ious(narrative: Narrative, masks: Sequence[Mask]) -> list[PhraseIou]:
    """The phrases of a narrative, from a mask bool [H, W] for each. TTDError: another size."""
    found = []
    for phrase, mask, truth in zip(narrative.phrases, masks, narrative.truths(), strict=True):
        if mask.shape != truth.shape:
            raise TTDError(
                f"narrative {narrative.number}, phrase {phrase.number}: a mask of {mask.shape} "
                f"pixels, the image has {truth.shape}"
            )
        found.append(PhraseIou(phrase, mask_iou(mask, truth)))
    return found


def group_scores(found: Iterable[PhraseIou]) -> dict[str, dict[str, Any]]:
    """`phrase_scores` and the count of phrases, of all, things, stuff, singulars and plurals."""
    rows = list(found)
    groups = {}
    for name, belongs in GROUPS.items():
        ious = np.array([row.iou for row in rows if belongs(row.phrase)])
        groups[name] = {"phrases": len(ious), **phrase_scores(ious)}
    return groups


def read_masks(path: Path) -> Masks:
    """Predicted run lengths by (narrative, phrase). TTDError with file and line."""
    found: Masks = {}
    for number, row in json_rows(path, FORM):
        one, place, mask = (row.get(k) for k in ("narrative", "phrase", "segmentation"))
        if type(one) is not int or type(place) is not int or not isinstance(mask, dict):
            raise TTDError(f"{path}:{number}: {FORM}")
        key = (one, place)
        if key in found:
            raise TTDError(f"{path}:{number}: narrative {key[0]}, phrase {key[1]} is there twice")
        found[key] = mask
    return found


def masks_of(narrative: Narrative, predictions: Masks) -> list[Mask]:
    """A narrative's predicted masks bool [H, W]. TTDError: one is missing or damaged."""
    masks = []
    for phrase in narrative.phrases:
        key = (narrative.number, phrase.number)
        where = f"narrative {key[0]}, phrase {key[1]} ({phrase.text[:40]!r})"
        if key not in predictions:
            raise TTDError(f"no mask for {where}; every scored phrase needs one, if an empty one")
        masks.append(_decoded(predictions[key], narrative.size, where))
    return masks


def _decoded(rle: Mapping[str, Any], size: tuple[int, int], where: str) -> Mask:
    """A mask of an image of (H, W) pixels; its size is looked at before anything is unpacked."""
    if rle.get("size") != list(size):
        raise TTDError(
            f"{where}: a mask of {str(rle.get('size'))[:40]} pixels, the image has {list(size)} "
            "(height, width)"
        )
    try:
        return decode(rle)
    except TTDError as error:
        raise TTDError(f"{where}: {error}") from None
