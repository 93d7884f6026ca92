"""Which phrases a grounding model gets right: by their length, and by the size of the box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..grounding.locate import Located
from ..metrics.boxes import Values, by_length, by_size


def breakdown(found: Sequence[Located]) -> dict[str, dict[str, tuple[int, float]]]:
    """Acc@0.5 by phrase length and box size, with counts."""
    ious: Values = np.array([item.iou for item in found], np.float64)
    shares: Values = np.array([item.share for item in found], np.float64)
    texts = [item.phrase.text for item in found]
    return {"words": by_length(ious, texts), "size": by_size(ious, shares)}
