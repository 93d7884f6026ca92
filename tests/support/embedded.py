"""Random batches in embedding space."""

import torch
import torch.nn.functional as F

from core.ttd.embedding import Embedded

MASK = (6.0, 0.1)
CAPTIONS = ["A dog and the dog", "red", "", "one two three four five six"]


def random_embedded(texts, seed=0, dim=5, grid=(3, 4), dtype=torch.float64, pooled=True):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: F.normalize(torch.randn(*shape, generator=g, dtype=dtype), dim=-1)  # noqa: E731
    b = len(texts.captions)
    pixels = draw(b, *grid, dim).permute(0, 3, 1, 2)
    return Embedded(
        pixels, draw(len(texts.words), dim), draw(b, dim), draw(b, dim) if pooled else None
    )
