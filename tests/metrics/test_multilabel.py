"""Average precision of classes against hand-worked cases and a brute force over thresholds."""

import numpy as np
import pytest

from core.errors import TTDError
from core.metrics.bootstrap import draws_of
from core.metrics.multilabel import class_precisions, drawn_means, mean_precision


def brute_force(scores, truth):
    """Sum over distinct thresholds of the recall gained there times the precision, by counting."""
    total, before = 0.0, 0.0
    for cut in sorted(set(scores), reverse=True):
        kept = [t for s, t in zip(scores, truth, strict=True) if s >= cut]
        recall = sum(kept) / sum(truth)
        total += (recall - before) * sum(kept) / len(kept)
        before = recall
    return total


def test_by_hand():
    # Ranked: hit, miss, hit -> precision 1 and 2/3 at the two positives.
    found = class_precisions([[0.9], [0.5], [0.1]], [[1], [0], [1]])
    assert found == pytest.approx([(1 + 2 / 3) / 2])
    # A tie of a hit and a miss counts once, with both: half, in whichever order they stand.
    for truth in ([[1], [0]], [[0], [1]]):
        assert class_precisions([[0.5], [0.5]], truth) == pytest.approx([0.5])
    # Non-interpolated: 11-point interpolation would give 1.0 for the first positive's recall range.
    found = class_precisions([[4], [3], [2], [1]], [[0], [1], [0], [1]])
    assert found == pytest.approx([(1 / 2 + 2 / 4) / 2])


def test_against_brute_force_with_ties():
    rng = np.random.default_rng(0)
    for levels in (2, 5, 1000):
        scores = rng.integers(0, levels, (40, 6)) / levels
        truth = rng.random((40, 6)) < 0.3
        found = class_precisions(scores, truth)
        for k in range(6):
            assert found[k] == pytest.approx(brute_force(scores[:, k], truth[:, k]))


def test_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 9, (60, 4)) / 9, rng.random((60, 4)) < 0.4
    wanted = metrics.average_precision_score(truth, scores, average="macro")
    assert mean_precision(class_precisions(scores, truth)) == pytest.approx(wanted)


def test_an_ignored_image_leaves_the_ranking():
    scores, truth = [[0.9], [0.5], [0.1]], [[0], [1], [0]]
    assert class_precisions(scores, truth) == pytest.approx([0.5])
    assert class_precisions(scores, truth, [[0], [1], [1]]) == pytest.approx([1.0])


def test_a_class_without_positives():
    found = class_precisions([[0.9, 0.1], [0.5, 0.3]], [[1, 0], [0, 0]])
    assert np.isnan(found[1])
    assert mean_precision(found) == 1.0
    assert mean_precision(found, empty_is_zero=True) == 0.5
    assert np.isnan(mean_precision([np.nan]))


@pytest.mark.parametrize("scores", [[[np.nan]], [[np.inf]], [[0.1, 0.2]], [0.1]])
def test_what_has_no_rank_is_refused(scores):
    with pytest.raises(TTDError):
        class_precisions(scores, [[1]])


def test_draws_are_those_of_repeated_images():
    """mAP of a draw: each image stands in the list as often as it was drawn; ties stay ties."""
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 5, (12, 4)) / 5, rng.random((12, 4)) < 0.3
    scored = rng.random((12, 4)) < 0.8
    truth[:, 2], truth[:, 3] = False, np.arange(12) == 0  # a class with none, one with a single one
    found = drawn_means(scores, truth, scored, draws=40, seed=3)
    (weights,) = draws_of(12, 40, 3)
    for value, counts in zip(found, weights.astype(int), strict=True):
        drawn = [np.repeat(part, counts, axis=0) for part in (scores, truth, scored)]
        expected = mean_precision(class_precisions(*drawn))
        assert value == pytest.approx(expected, nan_ok=True)
    assert len(np.unique(found)) > 20
    assert np.isnan(drawn_means(scores, np.zeros_like(truth), draws=3)).all()
