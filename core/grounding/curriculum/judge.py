"""What a curriculum is judged by: annotated phrases, or pseudo-labels that are set aside.

CLIP-VG compares thresholds by accuracy on the annotated val split, also where training is
unsupervised. Held-out pseudo-labels need no annotation at all: a share of the images is kept from
every training, and their labels of all sources are what a model is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from ...data.grounding import Phrase, PhraseList
from ...errors import TTDError

MOST = 2000  # held-out labels that a model is asked


def hold_out(
    sources: Mapping[str, PhraseList], share: float = 0.1, most: int = MOST
) -> tuple[dict[str, PhraseList], PhraseList]:
    """Sources without the held-out images, and the labels of those images.

    An image is held out by a hash of its name: in all sources alike, whatever else is there. The
    sources take turns among the labels, so that each has the same say. TTDError: a share that
    leaves nothing on one of the sides.
    """
    if not 0 < share < 1:
        raise TTDError(f"held-out share {share:g}: must be between 0 and 1")
    kept: dict[str, PhraseList] = {}
    aside: list[list[Phrase]] = []
    for name, source in sources.items():
        inside = [phrase for phrase in source.phrases if not _held_out(phrase, share)]
        aside.append([phrase for phrase in source.phrases if _held_out(phrase, share)])
        if not inside or not aside[-1]:
            raise TTDError(f"{source.place}: too few images to hold out {100 * share:g} % of them")
        kept[name] = PhraseList(source.place, [replace(p, index=i) for i, p in enumerate(inside)])
    each = max(1, most // len(aside))
    chosen = list(chain.from_iterable(phrases[:each] for phrases in aside))
    place = Path(f"held-out pseudo-labels ({100 * share:g} % of the images)")
    return kept, PhraseList(place, [replace(p, index=i) for i, p in enumerate(chosen)])


def _held_out(phrase: Phrase, share: float) -> bool:
    digest = hashlib.sha256(phrase.name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
