"""Charts: lines, dots and marks lie where their values are."""

import numpy as np
import pytest

from core.plots.charts.axes import COLOURS, LEFT
from core.plots.charts.curves import (
    PRECISION_RECALL,
    SWEEP,
    Curve,
    Line,
    Point,
    draw_precision_recall,
    draw_sweep,
)


def centre(image, colour, rows=slice(None), columns=slice(None)):
    """Mean (x, y) of the pixels of a colour, in pixels of the chart before it was halved."""
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    same = (np.abs(np.asarray(image).astype(int) - wanted).sum(-1) < 90)[rows, columns]
    y, x = np.nonzero(same)
    return 2 * (x.mean() + (columns.start or 0)) + 1, 2 * (y.mean() + (rows.start or 0)) + 1


def place(layout, x, y, y_max=1.0):
    return LEFT + layout.width * x, layout.top + layout.height * (1 - y / y_max)


def area(layout):
    return slice(0, (layout.top + layout.height) // 2)


def test_a_point_lies_at_its_recall_and_precision():
    image = draw_precision_recall([], [Point("all words", recall=0.8, precision=0.3)])
    found = centre(image, COLOURS[0], area(PRECISION_RECALL))
    assert found == pytest.approx(place(PRECISION_RECALL, 0.8, 0.3), abs=2)


def test_a_curve_is_steps_with_a_dot_where_it_cut():
    """Precision 0.8 up to recall 0.5, then 0.4 up to 1; the method cut at (0.5, 0.8)."""
    curve = Curve("m", np.array([0.5, 1.0]), np.array([0.8, 0.4]), cut=(0.5, 0.8))
    image = draw_precision_recall([curve], [])
    for recall, precision in ((0.2, 0.8), (0.35, 0.8), (0.7, 0.4), (0.9, 0.4)):
        x, y = place(PRECISION_RECALL, recall, precision)
        columns = slice(int(x) // 2 - 2, int(x) // 2 + 2)
        found = centre(image, COLOURS[0], area(PRECISION_RECALL), columns)
        assert found[1] == pytest.approx(y, abs=3)
    x, y = place(PRECISION_RECALL, 0.5, 0.8)
    dot = np.asarray(image)[int(y) // 2 - 3, int(x) // 2 - 2 : int(x) // 2 + 2]
    assert (np.abs(dot.astype(int) - (0, 114, 178)).sum(-1) < 40).any()


def test_a_cut_beside_its_curve_is_joined_to_it():
    """The nearest place of the curve is (0.5, 0.8), straight above the cut at (0.5, 0.6)."""
    curve = Curve("m", np.array([0.7, 1.0]), np.array([0.8, 0.2]), cut=(0.5, 0.6))
    image = draw_precision_recall([curve], [])
    x, y = place(PRECISION_RECALL, 0.5, 0.7)
    around = np.asarray(image)[int(y) // 2, int(x) // 2 - 3 : int(x) // 2 + 4].astype(int)
    assert (np.abs(around - (0, 114, 178)).sum(-1) < 150).any()
    curve = Curve("m", np.array([0.7, 1.0]), np.array([0.8, 0.2]), cut=(0.5, 0.8))
    image = draw_precision_recall([curve], [])
    around = np.asarray(image)[int(y) // 2, int(x) // 2 - 3 : int(x) // 2 + 4].astype(int)
    assert not (np.abs(around - (0, 114, 178)).sum(-1) < 150).any()


@pytest.mark.parametrize("name", ["дерево" * 20, "W" * 90])
def test_no_name_is_cut_off_in_the_legend(name):
    image = np.asarray(draw_precision_recall([], [Point(name, 0.5, 0.5)])).astype(int)
    below = image[(PRECISION_RECALL.top + PRECISION_RECALL.height + 80) // 2 :]
    dark = np.nonzero((below < 120).all(-1).any(0))[0]
    assert dark.max() < image.shape[1] - 5 and dark.max() > 0.6 * image.shape[1]


def test_the_legend_names_curves_and_points_in_their_order():
    curve = Curve("first", np.array([1.0]), np.array([0.5]), (1.0, 0.5))
    image = draw_precision_recall([curve], [Point("second", 0.1, 0.1)])
    below = slice((PRECISION_RECALL.top + PRECISION_RECALL.height + PRECISION_RECALL.below) // 2)
    below = slice(below.stop, image.height)
    first, second = (centre(image, COLOURS[k], below)[1] for k in (0, 1))
    assert second - first == pytest.approx(46, abs=3)


def test_a_sweep_has_its_values_its_maximum_and_its_marks():
    thresholds = [round(0.01 * k, 2) for k in range(1, 100)]
    values = np.full(99, 0.2)
    values[70] = 0.58  # at 0.71; the axis ends at 0.6
    dashed = Line("mFPR", np.full(99, 0.4), dashed=True)
    image = draw_sweep(thresholds, [Line("mIoU", values), dashed], "mIoU", {0.4: "--bg 0.40"})
    x, y = place(SWEEP, 0.71, 0.58, 0.6)
    top = slice(int(y) // 2 - 4, int(y) // 2 + 4)
    assert centre(image, COLOURS[0], top)[0] == pytest.approx(x, abs=4)
    level = np.asarray(image)[int(y) // 2 + 1].astype(int)  # through the dot, 11 in radius
    assert 7 <= (np.abs(level - (0, 114, 178)).sum(-1) < 90).sum() <= 12
    x, y = place(SWEEP, 0.2, 0.2, 0.6)
    columns = slice(int(x) // 2 - 2, int(x) // 2 + 2)
    assert centre(image, COLOURS[0], area(SWEEP), columns)[1] == pytest.approx(y, abs=3)
    x, _ = place(SWEEP, 0.4, 0, 0.6)
    y = int(place(SWEEP, 0, 0.5, 0.6)[1]) // 2
    inside = slice(LEFT // 2 + 5, LEFT // 2 + 590)
    assert centre(image, "#888888", slice(y - 1, y + 1), inside)[0] == pytest.approx(x, abs=3)
    colour = np.abs(np.asarray(image).astype(int) - (0xD5, 0x5E, 0x00)).sum(-1) < 60
    row = colour[int(place(SWEEP, 0, 0.4, 0.6)[1]) // 2]
    assert 0.3 < row[LEFT // 2 + 10 : (LEFT + SWEEP.width) // 2 - 10].mean() < 0.7
    assert (image.width, image.height) == (685, 516)


def test_lines_without_a_value_are_drawn_as_nothing():
    image = draw_sweep((0.25, 0.75), [Line("none", np.full(2, np.nan))], "mIoU")
    assert not (np.asarray(image)[area(SWEEP)] == (0, 0x72, 0xB2)).all(-1).any()
