"""Metrics of tags against scikit-learn, brute force, and the arithmetic of the published table."""

import numpy as np
import pytest

from core.data.tag_words import truth_of
from core.errors import TTDError
from core.metrics.tags import average_precision, best_threshold, precision_recall_curve, tag_scores

# P, R, F1, Acc in percent, as published for CC3M-TagMask.
PUBLISHED = {
    "NLTK": (59.8, 83.7, 69.8, 79.6),
    "Vicuna-7B": (44.1, 71.0, 54.4, 70.9),
    "Vicuna-33B": (52.7, 70.7, 60.4, 75.9),
    "Qwen-72B": (69.3, 56.2, 62.1, 80.9),
    "TCL@image": (92.5, 28.6, 43.7, 79.5),
    "TCL@text": (85.6, 29.7, 44.1, 79.0),
    "TCL@pixel": (82.9, 74.5, 78.5, 88.6),
    "TCL@pixel+TTD": (88.3, 78.0, 82.8, 91.0),
}
ONE_WORD_LIST = ("NLTK", "Qwen-72B", "TCL@image", "TCL@text", "TCL@pixel", "TCL@pixel+TTD")


def implied_share(precision: float, recall: float, accuracy: float) -> float:
    """Share s of true words that P, R and accuracy imply: 1 - Acc = s R (1/P - 1) + s (1 - R)."""
    return (1 - accuracy) / (recall / precision - 2 * recall + 1)


def random_cases(count=60):
    random = np.random.default_rng(0)
    for _ in range(count):
        words = int(random.integers(2, 200))
        truth = random.random(words) < random.choice([0.05, 0.3, 0.9])
        truth[int(random.integers(words))] = True  # scikit-learn has no recall without a true word
        scores = random.random(words)
        yield (np.round(scores, 1) if random.random() < 0.5 else scores), truth, random


@pytest.mark.parametrize("method", PUBLISHED)
def test_published_f1_follows_from_published_precision_and_recall(method):
    precision, recall, f1, _ = PUBLISHED[method]
    # Each number was rounded to 0.1: F1 of the rounded ones may be off by as much.
    assert 2 * precision * recall / (precision + recall) == pytest.approx(f1, abs=0.1)


@pytest.mark.parametrize("method", ONE_WORD_LIST)
def test_published_rows_share_one_word_list(method):
    precision, recall, _, accuracy = (value / 100 for value in PUBLISHED[method])
    assert implied_share(precision, recall, accuracy) == pytest.approx(0.279, abs=0.003)


def test_the_implied_share_is_the_share_of_true_words():
    for scores, truth, _ in random_cases():
        selected = scores > 0.5
        if (selected & truth).sum() > 0 and (selected != truth).any():
            result = tag_scores(selected, truth)
            assert implied_share(result.precision, result.recall, result.accuracy) == pytest.approx(
                truth.mean()
            )


def test_scores_equal_scikit_learn():
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    for scores, truth, _ in random_cases():
        selected = scores > 0.5
        expected = precision_recall_fscore_support(
            truth, selected, average="binary", zero_division=0
        )[:3]
        assert tag_scores(selected, truth) == pytest.approx(
            (*expected, accuracy_score(truth, selected))
        )


def test_average_precision_and_curve_equal_scikit_learn_ties_included():
    from sklearn.metrics import average_precision_score
    from sklearn.metrics import precision_recall_curve as reference

    for scores, truth, _ in random_cases():
        assert average_precision(scores, truth) == pytest.approx(
            average_precision_score(truth, scores)
        )
        precision, recall, thresholds = reference(truth, scores)
        for ours, theirs in zip(
            precision_recall_curve(scores, truth),
            (precision[-2::-1], recall[-2::-1], thresholds[::-1]),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs)


def test_best_threshold_is_the_best_of_all_thresholds():
    for scores, truth, random in random_cases():
        allowed = random.random(len(truth)) < 0.8
        every = [tag_scores((scores >= t) & allowed, truth).f1 for t in np.unique(scores)]
        threshold, result = best_threshold(scores, truth, allowed)
        assert result.f1 == pytest.approx(max(every))
        assert result == tag_scores((scores >= threshold) & allowed, truth)


def test_nothing_selected_or_nothing_true_is_zero_not_a_crash():
    none, some = np.zeros(4, bool), np.array([True, False, False, True])
    assert tag_scores(none, some) == (0, 0, 0, 0.5)
    assert tag_scores(some, none) == (0, 0, 0, 0.5)
    assert average_precision(np.arange(4), none) == 0


def test_truth_ignores_case_and_counts_every_occurrence():
    assert truth_of(["A", "Red", "dog", "DOG", "Straße"], ["dog", "red", "STRASSE"]).tolist() == [
        0,
        1,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize(("scores", "truth"), [([], []), ([0.5], [True, False])])
def test_one_truth_per_word_is_asked_for(scores, truth):
    with pytest.raises(TTDError, match="per word"):
        average_precision(np.array(scores), np.array(truth))
