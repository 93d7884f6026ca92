"""Losses that several systems share, against the definition."""

import numpy as np
import pytest
import torch

from core.training.losses import info_nce


def test_info_nce_is_the_mean_of_both_cross_entropies():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, 8, generator=generator).double()
    logits = (7 * a @ b.T).numpy()
    rows = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    columns = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    assert info_nce(a, b, torch.tensor(7.0)).item() == pytest.approx(
        (rows.mean() + columns.mean()) / 2
    )
