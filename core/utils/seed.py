"""The one place where randomness is seeded."""

import random

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices) with `seed`, so that the same command gives the same files."""
    import torch  # late: the world generator's worker processes never need it

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
