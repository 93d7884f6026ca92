"""The benchmarks of visual grounding: their names, splits, image folders and sizes.

Names and folders are those of CLIP-VG's and TransVG's releases. Sizes count phrases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import TTDError

COCO = "other/images/mscoco/images/train2014"


@dataclass(frozen=True)
class GroundingSet:
    """A benchmark.

    title: its name in papers. images: folder under the data root. xywh: whether released label
    lists hold x, y, width, height; else corners. evaluate: splits that are reported, in order.
    counts: phrases by split, where known.
    """

    title: str
    images: str
    xywh: bool
    evaluate: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """Every split of the benchmark, `train_pseudo` among them."""
        return ("train", *self.evaluate, "train_pseudo")


SETS: dict[str, GroundingSet] = {
    "unc": GroundingSet(
        "RefCOCO",
        COCO,
        True,
        ("val", "testA", "testB"),
        {"train": 120624, "val": 10834, "testA": 5657, "testB": 5095},
    ),
    "unc+": GroundingSet(
        "RefCOCO+",
        COCO,
        True,
        ("val", "testA", "testB"),
        {"train": 120191, "val": 10758, "testA": 5726, "testB": 4889},
    ),
    "gref": GroundingSet("RefCOCOg (google)", COCO, True, ("val",), {"train": 85474, "val": 9536}),
    "gref_umd": GroundingSet(
        "RefCOCOg (umd)", COCO, True, ("val", "test"), {"train": 80512, "val": 4896, "test": 9602}
    ),
    "referit": GroundingSet(
        "ReferItGame",
        "referit/images",
        False,
        ("val", "test"),
        {"train": 54127, "val": 5842, "test": 60103},
    ),
    "flickr": GroundingSet(
        "Flickr30k Entities", "Flickr30k/flickr30k-images", False, ("val", "test"), {"test": 14481}
    ),
}


def grounding_set(name: str) -> GroundingSet:
    """A benchmark by its name. TTDError listing the names."""
    if name not in SETS:
        raise TTDError(f"unknown grounding set {name!r}: there are {', '.join(SETS)}")
    return SETS[name]
