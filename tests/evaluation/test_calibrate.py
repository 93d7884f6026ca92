"""The fitted soft mask: slope against scikit-learn, cut against a search over all thresholds."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from core.evaluation.calibrate import STEP, fit_to_maps


@pytest.fixture(scope="module")
def case():
    """Cosines that are higher where the tag is shown, and the true masks."""
    rng = np.random.default_rng(0)
    masks = [rng.random((31, 44)) < share for share in (0.2, 0.5, 0.7)]
    noise = [rng.standard_normal(mask.shape) for mask in masks]
    pairs = zip(masks, noise, strict=True)
    maps = [(0.15 + 0.2 * mask + 0.1 * one).astype(np.float32) for mask, one in pairs]
    return maps, masks


def test_the_slope_is_that_of_a_logistic_regression(case):
    maps, masks = case
    x = np.concatenate([one[::STEP, ::STEP].ravel() for one in maps])[:, None]
    y = np.concatenate([one[::STEP, ::STEP].ravel() for one in masks])
    reference = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(x.astype(float), y)
    assert fit_to_maps(*case)["mask_scale"] == pytest.approx(reference.coef_[0, 0], rel=1e-3)


@pytest.mark.parametrize("threshold", [0.4, 0.25])
def test_the_cut_falls_on_the_cosine_with_the_best_mean_iou(case, threshold):
    maps, masks = case
    found = fit_to_maps(*case, threshold)
    odds = np.log(threshold / (1 - threshold))
    cut = found["mask_bias"] + odds / found["mask_scale"]  # sigmoid(a (cut - b)) = threshold

    def mean_iou(cosine):
        pairs = zip(maps, masks, strict=True)
        return np.mean([((m > cosine) & t).sum() / ((m > cosine) | t).sum() for m, t in pairs])

    best = max(mean_iou(cosine) for cosine in np.linspace(0, 0.6, 400))
    assert mean_iou(cut) == pytest.approx(best, abs=3e-3)
