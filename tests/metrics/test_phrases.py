"""Average recall against the sum written down, and Ref-L4's accuracies by hand."""

import numpy as np
import pytest

from core.errors import TTDError
from core.metrics.phrases import average_recall, phrase_scores
from core.metrics.ref_l4 import CLASSES, ref_l4_scores


def test_average_recall_is_the_left_sum():
    ious = np.array([0.0, 0.25, 0.5, 0.731234567, 1.0])
    thresholds = np.arange(0, 1, 1e-5)
    recall = [(ious >= t).mean() for t in thresholds]
    total = sum(
        (after - before) * share
        for before, after, share in zip(thresholds[:-1], thresholds[1:], recall, strict=False)
    )
    assert average_recall(ious) == pytest.approx(total, abs=1e-12)
    assert average_recall(ious) == pytest.approx(ious.mean(), abs=2e-5)


def test_phrase_scores():
    found = phrase_scores([0.5, 0.75, 1.0, 0.0])
    assert found["acc@0.5"] == 0.5  # above, not at
    assert found["mean_iou"] == 0.5625
    assert all(np.isnan(value) for value in phrase_scores([]).values())
    with pytest.raises(TTDError):
        phrase_scores([1.2])


def test_ref_l4_is_strict():
    found = ref_l4_scores([0.5, 0.6, 0.9, 0.75 + 1e-6], [100] * 4, ["o365_1"] * 4)
    assert found["acc@0.5"] == 0.75 and found["acc@0.75"] == 0.5 and found["acc@0.9"] == 0
    # Above 0.50, 0.55: 3; 0.60 to 0.75: 2; 0.80, 0.85: 1; 0.90, 0.95: none.
    assert found["macc"] == pytest.approx((3 + 3 + 2 * 4 + 1 * 2) / 40)


def test_ref_l4_sizes_and_classes():
    sizes = [127.9, 128, 256, 256.1]
    ious = [1.0, 0.0, 1.0, 0.0]
    found = ref_l4_scores(ious, sizes, ["refcoco_1", "o365_1", "o365_7", "o365_7"])
    assert (found["small_acc@0.5"], found["medium_acc@0.5"], found["large_acc@0.5"]) == (1, 0.5, 0)
    assert found["class_acc@0.5"] == 0.5  # refcoco_1 is o365_1
    found = ref_l4_scores([1.0, 0.0, 0.0], [1] * 3, ["refcoco_2", "o365_1", "o365_1"])
    assert found["class_acc@0.5"] == 0.5 and found["acc@0.5"] == pytest.approx(1 / 3)
    assert np.isnan(found["large_macc"])
    assert len(CLASSES) == 80 and CLASSES["refcoco_6"] == CLASSES["refcoco_16"] == "o365_56"


def test_a_long_name_of_a_class_costs_its_own_length():
    """Not that of every row: an array of these names would be of 800 GB."""
    found = ref_l4_scores(np.ones(50_000), np.ones(50_000), ["x" * (1 << 22), *["o365_1"] * 49_999])
    assert found["class_acc@0.5"] == 1
