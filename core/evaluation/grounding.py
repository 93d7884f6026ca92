"""Grounding results: which phrases are got right, and what CLIP-VG's paper reports.

The paper: TMM 2023, arXiv 2305.08685, tables I and II. Single and multi source: trained on
pseudo-labels of one or three kinds, without annotation; supervised: on the annotated boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics.boxes import Values, by_length, by_size

# Acc@0.5 in percent by (set, split).
PUBLISHED: dict[str, dict[tuple[str, str], float]] = {
    "CLIP-VG single source": {
        ("unc", "val"): 62.38,
        ("unc", "testA"): 65.03,
        ("unc", "testB"): 56.64,
        ("unc+", "val"): 48.87,
        ("unc+", "testA"): 55.73,
        ("unc+", "testB"): 39.41,
        ("gref", "val"): 54.16,
        ("gref_umd", "val"): 54.11,
        ("gref_umd", "test"): 54.81,
        ("referit", "test"): 50.63,
        ("flickr", "test"): 64.51,
    },
    "CLIP-VG multi source": {
        ("unc", "val"): 64.89,
        ("unc", "testA"): 69.03,
        ("unc", "testB"): 59.12,
        ("unc+", "val"): 50.85,
        ("unc+", "testA"): 57.31,
        ("unc+", "testB"): 41.27,
        ("gref", "val"): 58.06,
        ("gref_umd", "val"): 56.54,
        ("gref_umd", "test"): 57.51,
        ("referit", "test"): 53.08,
        ("flickr", "test"): 66.62,
    },
    "CLIP-VG supervised": {
        ("unc", "val"): 84.29,
        ("unc", "testA"): 87.76,
        ("unc", "testB"): 78.43,
        ("unc+", "val"): 69.55,
        ("unc+", "testA"): 77.33,
        ("unc+", "testB"): 57.62,
        ("gref", "val"): 72.64,
        ("gref_umd", "val"): 73.18,
        ("gref_umd", "test"): 72.54,
        ("referit", "test"): 70.89,
        ("flickr", "test"): 81.99,
    },
}


def breakdown(
    ious: Values, shares: Values, texts: Sequence[str]
) -> dict[str, dict[str, tuple[int, float]]]:
    """Phrases and Acc@0.5 by number of words and by size of the true box.

    Args: ious [N]; shares [N]: of the true boxes in their images; texts: the N phrases.
    """
    return {"words": by_length(ious, texts), "size": by_size(ious, shares)}
