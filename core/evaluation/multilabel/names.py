"""How papers ask CLIP for the classes of multi-label sets: names, templates, background words.

Read in the authors' code. A protocol of names is not a method: it says what is asked, not how
the answers are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import TTDError
from ...text.templates import MASKCLIP, OPENAI

SPLIT_VOC = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
# COCO's names in VOC's words, as TagCLIP has them.
COCO_AS_VOC = {
    "airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor",
    "potted plant": "pottedplant", "dining table": "diningtable",
}  # fmt: skip
# TagCLIP's background words. With COCO's classes, keyboard and sign are left out.
GROUNDS = (
    "ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water", "river", "sea",
    "railway", "railroad", "keyboard", "helmet", "cloud", "house", "mountain", "ocean", "road",
    "rock", "street", "valley", "bridge", "sign",
)  # fmt: skip
COCO_GROUNDS = tuple(word for word in GROUNDS if word not in ("keyboard", "sign"))


@dataclass(frozen=True)
class NameProtocol:
    """What is asked.

    templates: with {} where the word goes. renamed: the word for a
    release's name, by set. background: words that share the softmax, by set.
    """

    title: str
    templates: tuple[str, ...]
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    background: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def words(self, key: str, classes: Sequence[str]) -> list[str]:
        """The words to ask for in the set `key`, one for each class."""
        renamed = self.renamed.get(key, {})
        return [renamed.get(name, name) for name in classes]


NAMES: dict[str, NameProtocol] = {
    "piaa": NameProtocol("PIAA", ("a photo of a {}",), {"voc07": SPLIT_VOC, "voc12": SPLIT_VOC}),
    "tagclip": NameProtocol(
        "TagCLIP",
        OPENAI + MASKCLIP,
        {"coco14": COCO_AS_VOC},
        {"voc07": GROUNDS, "voc12": GROUNDS, "coco14": COCO_GROUNDS},
    ),
    "sparc": NameProtocol("SPARC without compound prompts", OPENAI),
    "plain": NameProtocol("the release's names alone", ("{}",)),
    "tai-dpt": NameProtocol("TaI-DPT", ("a photo of a {}.",)),
}


def name_protocol(name: str) -> NameProtocol:
    """A protocol by its name. TTDError that lists them."""
    if name not in NAMES:
        raise TTDError(f"unknown names {name!r}: choose one of {', '.join(NAMES)}")
    return NAMES[name]
