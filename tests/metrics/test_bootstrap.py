"""Bootstrap intervals against the closed form and against every possible draw."""

import itertools

import numpy as np
import pytest

from core.errors import TTDError
from core.metrics.bootstrap import by_image, f1_of, interval, iou_of, mean_of, replicates


def pairs(values):
    return np.stack([values, np.ones(len(values))], axis=1)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    """Of many values, mean +- 1.96 standard errors."""
    values = np.random.default_rng(1).random(400)
    found = interval(values.mean(), replicates(pairs(values), mean_of, draws=8000))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06 * half)


@pytest.mark.parametrize("kind", ["mean", "iou", "f1"])
def test_draws_are_those_of_all_draws_there_are(kind):
    """Four images have 256 draws: their mean and quantiles, by taking every one."""
    rng = np.random.default_rng(2)
    sums = {
        "mean": pairs(rng.random(4)),
        "iou": rng.integers(0, 9, (4, 6)).astype(float),
        "f1": rng.integers(0, 5, (4, 3)).astype(float),
    }[kind]

    def by_hand(rows):
        total = sum(sums[row] for row in rows)
        if kind == "mean":
            return total[0] / total[1]
        if kind == "f1":
            return 2 * total[0] / (2 * total[0] + total[1] + total[2])
        return np.mean([t / (t + p + n) for t, p, n in total.reshape(-1, 3) if t + p + n])

    every = np.array([by_hand(rows) for rows in itertools.product(range(4), repeat=4)])
    statistic = {"mean": mean_of, "iou": iou_of, "f1": f1_of}[kind]
    found = replicates(sums, statistic, draws=20000)
    assert found.mean() == pytest.approx(every.mean(), abs=0.004)
    for share in (0.1, 0.5, 0.9):
        below = (every < np.quantile(found, share) - 1e-9).mean()
        above = (every <= np.quantile(found, share) + 1e-9).mean()
        assert below - 0.02 <= share <= above + 0.02


def test_the_same_images_are_drawn_for_two_runs():
    """A run that is better by the same everywhere: the difference has no spread at all."""
    values = np.random.default_rng(3).random(50) / 2
    first, second = (replicates(pairs(one), mean_of) for one in (values, values + 0.25))
    assert np.allclose(second - first, 0.25) and first.std() > 0.01
    again = replicates(pairs(values), mean_of)
    assert (again == first).all() and (replicates(pairs(values), mean_of, seed=1) != first).any()


def test_classes_that_a_draw_lacks_are_left_out_of_it():
    """Two images of one class each: a draw of one image alone has one class."""
    sums = np.array([[1, 0, 1, 0, 0, 0], [0, 0, 0, 3, 1, 0]], float)  # IoU 1/2 and 3/4
    found = replicates(sums, iou_of, draws=4000)
    assert sorted(set(found.round(6).tolist())) == [0.5, 0.625, 0.75]
    assert (found == 0.625).mean() == pytest.approx(0.5, abs=0.05)


def test_entries_of_an_image_are_drawn_together():
    sums = by_image(["b", "a", "b"], [[1, 1], [0, 1], [1, 1]])
    assert sums.tolist() == [[2, 2], [0, 1]]
    assert by_image(["x", "x"], [1, 2]).tolist() == [[3]]
    long = by_image(["x" * (1 << 22), *["y"] * 50_000], np.ones(50_001))  # no array of such names
    assert long.tolist() == [[1], [50_000]]


def test_nothing_to_draw():
    with pytest.raises(TTDError, match="no images"):
        replicates(np.zeros((0, 2)), mean_of)
    assert np.isnan(interval(0.0, np.full(3, np.nan)).low)
