"""Scores as text and JSON: which number stands where."""

import numpy as np

from core.evaluation.report import (
    Line,
    class_rows,
    class_table,
    heldout_table,
    means_table,
    named_means,
    protocol_line,
    to_csv,
)
from core.metrics.segmentation import scores_of

# Rows are truth: 6 of 8 pixels of a are found, 1 is called b, 1 is nothing; b is all found.
CONFUSION = np.array([[6, 1, 0, 1], [0, 4, 0, 0], [0, 0, 0, 0]])


def test_rows_of_classes_by_hand():
    rows = class_rows(scores_of(CONFUSION), ["a", "b", "c"], [1, 2, 3], CONFUSION)
    assert rows[0] == {
        "label": 1,
        "name": "a",
        "iou": 0.75,
        "fpr": 0.0,
        "fnr": 0.25,
        "true_pixels": 8,
        "predicted_pixels": 6,
    }
    assert (rows[1]["iou"], rows[1]["fpr"], rows[1]["fnr"]) == (0.8, 0.2, 0)
    assert (rows[1]["true_pixels"], rows[1]["predicted_pixels"]) == (4, 5)
    assert rows[2]["iou"] is rows[2]["fpr"] is rows[2]["fnr"] is None
    lines = class_table(rows).splitlines()
    assert lines[1].split() == ["a", "75.0%", "0.000", "0.250", "8"]
    assert lines[2].split() == ["b", "80.0%", "0.200", "0.000", "4"]
    assert lines[3].split() == ["c", "-", "-", "-", "0"]
    assert to_csv(rows).splitlines()[3] == "3,c,,,,0,0"


def test_means_by_name():
    assert (
        means_table({"m": (0.5, 0.2, 0.3)}, "mIoU").splitlines()[1] == "m   50.0%   0.200   0.300"
    )
    assert named_means((0.5, 0.2, 0.3)) == {"iou": 0.5, "fpr": 0.2, "fnr": 0.3}


def test_the_gain_is_that_of_the_last_model_over_the_first():
    line = Line("word-map IoU", (0.25, 0.4, 0.375), {"all foreground": 0.125})
    row = heldout_table([line], ["a", "b", "c"]).splitlines()[1]
    assert row.split()[2:6] == ["25.0", "40.0", "37.5", "+12.5"]
    assert row.endswith("all foreground 12.5")
    alone = heldout_table([Line("F1", (float("nan"),), {})]).splitlines()
    assert alone[1].split() == ["F1", "-"] and "gain" not in alone[0]


def test_the_protocol_is_identity_and_model():
    stored = {"identity": {"bg": 0.4}, "model": {"name": "m"}, "arguments": {"x": 1}}
    assert protocol_line(stored) == 'protocol: {"name": "m", "bg": 0.4}'
    assert protocol_line({"old": 1}) == 'protocol: {"old": 1}'
    assert "not known" in protocol_line({})
