"""Scores of boxes, by hand and by counted pixels."""

import math

import numpy as np
import pytest

from core.errors import TTDError
from core.metrics.boxes import accuracy, box_iou, box_scores, by_length, by_size


def test_iou_counts_pixels():
    draw = np.random.default_rng(0)
    boxes = np.sort(draw.integers(0, 21, (2, 200, 2, 2)), axis=2).reshape(2, 200, 4)
    got = box_iou(*boxes.astype(float))
    for first, second, value in zip(*boxes, got, strict=True):
        areas = []
        for left, top, right, bottom in (first, second):
            area = np.zeros((20, 20), bool)
            area[top:bottom, left:right] = True
            areas.append(area)
        union = (areas[0] | areas[1]).sum()
        want = (areas[0] & areas[1]).sum() / union if union else 0.0
        assert value == pytest.approx(want)


def test_scores_by_hand():
    """Four phrases: IoU exactly 0.5 counts as found at 0.5."""
    scores = box_scores(np.array([0.5, 0.2, 0.76, 1.0]))
    assert scores["acc@0.25"] == 0.75 and scores["acc@0.5"] == 0.75
    assert scores["acc@0.75"] == 0.5 and scores["acc@0.9"] == 0.25
    assert scores["miou"] == pytest.approx(2.46 / 4)
    found = [3, 2, 2, 2, 2, 2, 1, 1, 1, 1]  # at 0.50, 0.55, ... 0.95
    assert scores["mean_acc"] == pytest.approx(sum(found) / 40)


def test_nothing_and_nonsense():
    assert math.isnan(accuracy(np.array([]))) and math.isnan(box_scores(np.array([]))["miou"])
    for wrong in ([1.5], [-0.1], [float("nan")]):
        with pytest.raises(TTDError):
            box_scores(np.array(wrong))


def test_groups_by_length_and_size():
    ious = np.array([0.6, 0.4, 0.9, 0.1, 0.7])
    texts = ["dog", "the red dog", "a dog on the left", "w " * 7, "w " * 12]
    assert by_length(ious, texts) == {
        "1-3": (2, 0.5), "4-5": (1, 1.0), "6-7": (1, 0.0), "8+": (1, 1.0)
    }  # fmt: skip
    shares = np.array([0.01, 0.049, 0.05, 0.25, 0.9])
    assert by_size(ious, shares) == {"small": (2, 0.5), "medium": (1, 1.0), "large": (2, 0.5)}
