"""The soft mask `sigmoid(a (S - b))` of a model that has none of its own.

a and b are fitted once, on held-out data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.heldout import Item
from ..metrics.segmentation import best_threshold, threshold_counts
from .heldout_maps import heldout_maps

STEP = 3  # every third pixel of both sides takes part in the regression: neighbours say the same
CUTS = 60  # cosines that are tried as the place of the cut
LOWEST, HIGHEST = 0.3, 0.999  # quantiles of all cosines between which they lie
ROUNDS = 30  # of Newton's method, which converges in fewer
RIDGE = 1e-6  # keeps the Hessian invertible where the classes can be separated


def fit_mask_mapping(
    backbone: Backbone, items: Sequence[Item], background_threshold: float = 0.4
) -> dict[str, float]:
    """a and b of `sigmoid(a (S - b))` for the maps of the true tags: "mask_scale", "mask_bias".

    To be fitted on a split that is not reported. The slope a is that of a logistic regression of
    "the pixel shows the tag" on its cosine S; then b is set so that the cut at the background
    threshold t falls on the cosine c with the best mean IoU: b = c + log((1 - t) / t) / a.
    """
    maps, masks = [], []
    for row, seen in heldout_maps(backbone, items):
        masks += list(items[row].masks)
        maps += list(seen.grid.resize(seen.tags, items[row].image.shape[:2]).cpu().numpy())
    return fit_to_maps(maps, masks, background_threshold)


def fit_to_maps(
    maps: Sequence[npt.NDArray[np.float32]],
    masks: Sequence[npt.NDArray[np.bool_]],
    background_threshold: float = 0.4,
) -> dict[str, float]:
    """`fit_mask_mapping` on cosine maps and their true masks, pairs of [H, W]."""
    cosine = np.concatenate([one[::STEP, ::STEP].ravel() for one in maps])
    shown = np.concatenate([one[::STEP, ::STEP].ravel() for one in masks])
    slope = _logistic_slope(torch.from_numpy(cosine), torch.from_numpy(shown))
    low, high = np.quantile(cosine, (LOWEST, HIGHEST)).tolist()
    cuts = np.linspace(low, high, CUTS).astype(np.float32).tolist()
    pairs = zip(maps, masks, strict=True)
    counts = np.stack([threshold_counts(one, mask, cuts) for one, mask in pairs])
    odds = (1 - background_threshold) / background_threshold
    bias = best_threshold(counts, cuts) + np.log(odds) / slope
    return {"mask_scale": round(slope, 3), "mask_bias": round(float(bias), 4)}


def _logistic_slope(x: Tensor, y: Tensor) -> float:
    """Slope of the logistic regression of y [P] bool on x [P].

    By Newton's method, on x with mean 0 and standard deviation 1.
    """
    mean, std = x.double().mean(), x.double().std()
    z, target = (x.double() - mean) / std, y.double()
    design = torch.stack([z, torch.ones_like(z)], 1)  # [P, 2]
    ridge = RIDGE * torch.eye(2, dtype=torch.float64)
    weight = torch.zeros(2, dtype=torch.float64)
    for _ in range(ROUNDS):
        p = torch.sigmoid(design @ weight)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + ridge
        weight = weight + torch.linalg.solve(hessian, design.T @ (target - p))
    return float(weight[0] / std)
