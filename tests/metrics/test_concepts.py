"""SA-Co's numbers: hand-worked pairs, and an assignment against every permutation and SciPy."""

import itertools

import numpy as np
import pytest

from core.errors import TTDError
from core.metrics.assignment import best_assignment
from core.metrics.concepts import (
    DRAWN,
    best_of,
    concept_scores,
    drawn_concepts,
    pair_counts,
    pair_sums,
)

NOTHING = np.zeros((0, 0))


def test_the_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for rows, columns in itertools.product(range(5), range(5)):
        gains = rng.random((rows, columns))
        found = best_assignment(gains)
        count = min(rows, columns)
        assert len(found[0]) == count and len(set(found[1].tolist())) == count
        wide = gains if rows <= columns else gains.T
        best = max(
            sum(wide[k, choice[k]] for k in range(count))
            for choice in itertools.permutations(range(max(rows, columns)), count)
        )
        assert gains[found].sum() == pytest.approx(best)


def test_the_assignment_is_scipys_even_among_equals():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(1)
    for _ in range(300):
        gains = rng.integers(0, 4, rng.integers(1, 8, 2)) / 4
        wanted = optimize.linear_sum_assignment(-gains)
        found = best_assignment(gains)
        assert [part.tolist() for part in found] == [part.tolist() for part in wanted]
    with pytest.raises(TTDError):
        best_assignment([[np.nan]])


def test_one_assignment_serves_all_thresholds():
    # Greedy would give 0.9 + 0.0; the best sum is 0.6 + 0.7.
    counts = pair_counts([[0.9, 0.6], [0.7, 0.0]])
    assert counts.tp.tolist() == [2, 2, 2, 1, 1, 0, 0, 0, 0, 0]
    assert counts.fp.tolist() == counts.fn.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]


def test_the_annotator_who_agrees_best():
    poor, good = pair_counts([[0.55]]), pair_counts([[0.8]])
    assert best_of([poor, good, good]) == 1
    missed, empty = pair_counts(np.zeros((0, 2))), pair_counts(NOTHING)
    assert best_of([missed, empty]) == 1  # nothing predicted, nothing there: perfect
    assert best_of([missed, missed]) == 0
    wrong = pair_counts(np.zeros((1, 0)))
    assert best_of([wrong, good]) == 1


def test_numbers_by_hand():
    pairs = [
        pair_counts([[0.8], [0.3]]),  # there and found, one mask too many: tp up to 0.8
        pair_counts(np.zeros((0, 2))),  # missed: two instances
        pair_counts(np.zeros((3, 0))),  # not there, three masks
        pair_counts(NOTHING),  # not there, nothing said
        pair_counts(NOTHING),
    ]
    found = concept_scores(pairs)
    # Over pairs: TP 1, FN 1, FP 1, TN 2.
    assert found["IL_precision"] == pytest.approx(1 / (2 + 1e-6))
    assert found["IL_recall"] == pytest.approx(1 / (2 + 1e-6))
    assert found["IL_FPR"] == pytest.approx(1 / (3 + 1e-6))
    mcc = (1 * 2 - 1 * 1) / ((2 * 2 * 3 * 3) ** 0.5 + 1e-6)
    assert found["IL_MCC"] == pytest.approx(mcc)
    # At 0.5: tp 1, fn 2; fp 1 in pairs with truth, 4 in all.
    precision, recall = 1 / (2 + 1e-4), 1 / (3 + 1e-4)
    micro = 2 * precision * recall / (precision + recall + 1e-4)
    assert found["pmF1@0.5"] == pytest.approx(micro)
    assert found["cgF1@0.5"] == pytest.approx(micro * mcc)
    assert found["precision@0.5"] == pytest.approx(1 / (5 + 1e-4))
    # The same up to 0.80, nothing above: 7 of 10 thresholds.
    assert found["cgF1"] == pytest.approx(0.7 * micro * mcc)
    assert found["cgF1@0.75"] == found["cgF1@0.5"]
    # One pair has truth and prediction; its F1 is 2 / 3 at 7 of 10.
    p, r = 1 / (2 + 1e-4), 1 / (1 + 1e-4)
    assert found["positive_macro_F1"] == pytest.approx(0.7 * 2 * p * r / (p + r + 1e-4))


def test_a_perfect_answer_is_nearly_one():
    pairs = [pair_counts(np.eye(2))] * 50 + [pair_counts(NOTHING)] * 50
    found = concept_scores(pairs)
    assert found["cgF1"] == pytest.approx(1, abs=1e-3) and found["IL_MCC"] == pytest.approx(1)


def test_without_both_kinds_of_pairs_mcc_is_zero():
    assert concept_scores([pair_counts([[1.0]])])["IL_MCC"] == 0
    assert np.isnan(concept_scores([pair_counts(NOTHING)])["positive_macro_F1"])


def test_sums_of_pairs_give_the_scores_of_the_pairs():
    """Of random sets of pairs, some of them several times or without any of a kind."""
    rng = np.random.default_rng(4)
    shapes = rng.integers(0, 3, (12, 2))
    pairs = [pair_counts(rng.random(shape)) for shape in shapes]
    draws = [[], [0], [3, 3], *rng.integers(0, 12, (40, 12)).tolist()]
    weights = np.array([np.bincount(draw, minlength=12) for draw in draws], float)
    found = drawn_concepts(weights @ pair_sums(pairs))
    for draw, own in zip(draws, found, strict=True):
        wanted = concept_scores([pairs[place] for place in draw])
        assert own == pytest.approx([wanted[name] for name in DRAWN], abs=1e-12)
    assert len({round(value, 6) for value in found[:, 0]}) > 20
