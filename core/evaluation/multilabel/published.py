"""What papers report on multi-label recognition: mAP in percent, each on its own labels.

A row belongs to one reading of the labels (`core.data.multilabel.label_sets.Variant.name`); ""
where the paper does not say which, and its code is not known. ViT-B/16 unless the name says
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    """A published number. variant: of the labels it was measured on, "" where that is not known."""

    method: str
    variant: str
    percent: float


def _piaa(sclip: float, itaclip: float, scclip: float) -> list[Anchor]:
    rows = {"SCLIP": sclip, "ITACLIP": itaclip, "SC-CLIP": scclip}
    return [Anchor(f"PIAA on {name}", "PIAA", value) for name, value in rows.items()]


# PIAA: ICML 2026, its README. TagCLIP: AAAI 2024, its README. SPARC: arXiv 2502.16911. TaI-DPT:
# CVPR 2023. CDUL: ICCV 2023. TTD: ECCV 2024.
PUBLISHED: dict[str, list[Anchor]] = {
    "voc07": [
        *_piaa(91.7, 92.3, 92.5),
        Anchor("TagCLIP", "TagCLIP", 92.8),
        Anchor("SPARC", "PIAA", 88.7),
        Anchor("TaI-DPT, RN50", "VOC", 88.3),
        Anchor("CDUL", "", 89.0),
    ],
    "voc12": [*_piaa(91.4, 92.2, 92.2), Anchor("CDUL", "", 88.6)],
    "coco14": [
        *_piaa(73.0, 74.6, 73.2),
        Anchor("TagCLIP", "", 68.8),
        Anchor("SPARC", "", 68.0),
        Anchor("TaI-DPT, RN50", "", 65.1),
        Anchor("CDUL", "", 69.2),
    ],
    "nus": [
        *_piaa(49.2, 49.1, 50.6),
        Anchor("TaI-DPT, RN50", "official list", 46.5),
        Anchor("SPARC", "", 47.5),
        Anchor("TTD", "", 42.63),
        Anchor("CDUL", "", 44.0),
    ],
}
