"""The interval of mAP: around the score, as wide as that of scores of fresh sets of images."""

import numpy as np
import pytest

from core.data.multilabel.label_sets import plain_variant
from core.report.multilabel import ClassScores, drawn_map


def one_set(rng, images=300, classes=8):
    """Scores of images that are a little higher where the class is there, and the labels."""
    truth = rng.random((images, classes)) < 0.1
    scores = rng.normal(size=truth.shape) + 1.5 * truth
    return ClassScores("x", scores, {}), plain_variant("own", "", truth)


def test_the_interval_is_that_of_other_images():
    rng = np.random.default_rng(0)
    fresh = [drawn_map(*one_set(rng))[0] for _ in range(40)]
    for found in fresh:
        assert found.low < found.value < found.high
    values = np.array([found.value for found in fresh])
    covered = np.mean([found.low <= values.mean() <= found.high for found in fresh])
    assert covered >= 0.8
    widths = np.mean([found.high - found.low for found in fresh])
    assert widths == pytest.approx(2 * 1.96 * values.std(ddof=1), rel=0.35)


def test_a_reading_without_images_or_positives():
    scores, variant = one_set(np.random.default_rng(1), images=5)
    nobody = plain_variant("own", "", variant.truth, rows=np.zeros(5, bool))
    nothing = plain_variant("own", "", np.zeros_like(variant.truth))
    for reading in (nobody, nothing):
        found, drawn = drawn_map(scores, reading)
        assert np.isnan([found.value, found.low, found.high]).all() and np.isnan(drawn).all()
