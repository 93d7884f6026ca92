"""The soft mask `sigmoid(a (S - b))` of a model that has none of its own: a and b fitted once on held-out data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.heldout import Item
from ..metrics.segmentation import best_threshold, threshold_counts
from .heldout_maps import heldout_maps

STEP = 3  # every third pixel of both sides takes part in the regression: neighbours say the same
CUTS = 60  # cosines that are tried as the place of the cut


def fit_mask_mapping(
    backbone: Backbone, items: Sequence[Item], background_threshold: float = 0.4
) -> dict[str, float]:
    """a, b of `sigmoid(a (S - b))` for the word maps of the true tags, to be fitted on a split that is not reported.

    The slope a is that of a logistic regression of "the pixel shows the tag" on its cosine; then b
    is set so that the cut at `bg` falls on the cosine with the best mean IoU: b = t + log((1 - bg)
    / bg) / a.
    """
    maps, masks = [], []
    for row, seen in heldout_maps(backbone, items):
        masks += list(items[row].masks)
        maps += list(seen.grid.resize(seen.tags, items[row].image.shape[:2]).cpu().numpy())
    return fit_to_maps(maps, masks, background_threshold)


def fit_to_maps(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], background_threshold: float = 0.4
) -> dict[str, float]:
    """`fit_mask_mapping` on cosine maps and their true masks (bool), pairs of [H, W]."""
    cosine, shown = (
        np.concatenate([part[::STEP, ::STEP].ravel() for part in parts]) for parts in (maps, masks)
    )
    slope = _logistic_slope(torch.from_numpy(cosine), torch.from_numpy(shown))
    cuts = np.linspace(*np.quantile(cosine, (0.3, 0.999)), CUTS).astype(np.float32)
    counts = np.stack(
        [threshold_counts(part, mask, cuts) for part, mask in zip(maps, masks, strict=True)]
    )
    bias = (
        best_threshold(counts, cuts)
        + np.log((1 - background_threshold) / background_threshold) / slope
    )
    return {"mask_scale": round(slope, 3), "mask_bias": round(float(bias), 4)}


def _logistic_slope(x: Tensor, y: Tensor, rounds: int = 30) -> float:
    """Slope of the logistic regression of y [P] bool on x [P], by Newton's method on standardised x."""
    mean, std = x.double().mean(), x.double().std()
    z, target, weight = (x.double() - mean) / std, y.double(), torch.zeros(2, dtype=torch.float64)
    design = torch.stack([z, torch.ones_like(z)], 1)
    for _ in range(rounds):
        p = torch.sigmoid(design @ weight)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + 1e-6 * torch.eye(
            2, dtype=torch.float64
        )
        weight = weight + torch.linalg.solve(hessian, design.T @ (target - p))
    return float(weight[0] / std)
