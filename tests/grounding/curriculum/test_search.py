"""Hill climbing against exhaustive search, and how often it asks."""

import math

import numpy as np
import pytest

from core.errors import TTDError
from core.grounding.curriculum.search import NOTHING, Grid, climb


def unimodal(peak, grid, rng):
    """Values that rise strictly to `peak` and fall strictly after it."""
    steps = np.cumsum(rng.uniform(0.01, 1, grid.last + 1))
    return [float(-abs(steps[i] - steps[peak])) for i in range(grid.last + 1)]


@pytest.mark.parametrize("delta, start", [(0.1, 0.5), (0.1, 0.0), (0.1, 0.9), (0.25, 0.5)])
def test_on_a_curve_with_one_peak_the_best_of_all_is_found_and_nothing_asked_twice(delta, start):
    grid, rng = Grid(delta, start), np.random.default_rng(0)
    for peak in range(grid.last + 1):
        curve, asked = unimodal(peak, grid, rng), []

        def performance(threshold, curve=curve, asked=asked):
            asked.append(threshold)
            return curve[round(threshold / delta)]

        found = climb(performance, grid)
        assert found.threshold == pytest.approx(delta * int(np.argmax(curve)))
        assert found.performance == max(curve)
        assert len(asked) == len(set(asked)) and list(found.tried) == asked
        # The path from the start to the peak, and the neighbours of both.
        start_step = round(start / delta)
        low, high = min(start_step, peak) - 1, max(start_step, peak) + 1
        inside = [step for step in range(low, high + 1) if 0 <= step <= grid.last]
        assert sorted(round(t / delta) for t in asked) == inside


def test_it_stays_where_no_neighbour_is_better():
    asked = []
    found = climb(lambda threshold: asked.append(threshold) or 0.5)
    assert (found.threshold, asked) == (0.5, [0.5, 0.4, 0.6])


def test_of_two_better_neighbours_the_better_one_and_of_equals_the_lower():
    values = {0.5: 1, 0.4: 2, 0.6: 3, 0.7: 0}
    assert climb(values.__getitem__).threshold == 0.6
    values = {0.5: 1, 0.4: 2, 0.6: 2, 0.3: 0}
    assert climb(values.__getitem__).threshold == 0.4


def test_thresholds_are_exact_decimals():
    seen = []
    climb(lambda threshold: seen.append(threshold) or threshold)
    assert seen == [0.5, 0.4, 0.6, 0.7, 0.8, 0.9]


def test_where_the_start_leaves_too_little_the_search_begins_lower():
    values = {0.0: 1.0, 0.1: 2.0, 0.2: 3.0}
    found = climb(lambda threshold: values.get(threshold, NOTHING))
    assert (found.threshold, found.performance) == (0.2, 3.0)
    assert climb(lambda threshold: NOTHING).threshold == 0.0


def test_a_subset_that_is_too_small_never_wins():
    found = climb(lambda threshold: NOTHING if threshold > 0.5 else -threshold)
    assert found.threshold == 0.0 and math.isfinite(found.performance)


@pytest.mark.parametrize("delta, start", [(0, 0.5), (0.6, 0), (0.1, 1.0), (0.1, 0.55), (0.1, -0.1)])
def test_grids_that_cannot_be(delta, start):
    with pytest.raises(TTDError, match="delta|start"):
        Grid(delta, start)
