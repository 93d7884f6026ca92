"""Label maps of one image: how they are made, their legend, and their form in COCO's files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backbones.own_settings import ModelDefaults
from ..data.labels.dataset_yaml import voc_palette
from ..data.labels.rle import bounds, compress
from ..errors import TTDError
from ..maps.views import Views
from ..masks.protocol import MaskProtocol, protocol
from ..plots.label_overlay import Entry
from .arguments import checked_templates, is_number

THRESHOLD = 0.40  # of the background, as for the sets (--bg)
NO_BACKGROUND = object()  # in the place of a threshold

Labels = npt.NDArray[np.uint8]  # [H, W]: 0 background, k the k-th class


def settings(
    views: Views, refine: str | None, background_threshold: Any, templates: Any, own: ModelDefaults
) -> MaskProtocol:
    """A predictor's settings as the protocol of a label map.

    background_threshold: `NO_BACKGROUND` for the best class everywhere. None, there and for the
    templates: `own`, the model's, where it has them. TTDError for what is no threshold.
    """
    everywhere = background_threshold is NO_BACKGROUND
    chosen = own.bg if background_threshold is None or everywhere else background_threshold
    if chosen is not None and not is_number(chosen):
        raise TTDError(f"background_threshold: {chosen!r}; give a number from 0 to 1, or None")
    wanted = own.templates if templates is None else checked_templates(templates)
    return protocol(
        "ttd",
        image=views.size,
        scales=views.scales,
        hflip=views.hflip,
        templates=wanted,
        pamr=refine == "pamr",
        crf=refine == "crf",
        rule="none" if everywhere else "threshold",
        background_threshold=chosen,
    )


def entries_of(labels: Labels, names: Sequence[str]) -> list[Entry]:
    """The classes that are in a label map, with PASCAL VOC's colours."""
    colours, there = voc_palette().tolist(), set(np.unique(labels).tolist())
    numbered = enumerate(names, start=1)
    return [Entry(k, name, tuple(colours[k])) for k, name in numbered if k in there]


def coco_entries(labels: Labels, names: Sequence[str]) -> list[dict[str, Any]]:
    """An entry as COCO writes masks for each class that is in a label map, in their order."""
    entries = []
    for label, name in enumerate(names, start=1):
        mask = labels == label
        if mask.any():
            found = {
                "segmentation": compress(mask),
                "area": int(mask.sum()),
                "bbox": list(bounds(mask)),
            }
            entries.append({"category_id": label, "category": name, **found})
    return entries
