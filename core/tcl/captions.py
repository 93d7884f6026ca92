"""Caption embeddings of a frozen text tower: once per pair, where they fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.pairs import Pairs

ROWS = 256  # captions encoded at a time, always the same together: equal to the last bit


class CaptionCache:
    """Embeddings [P, D] of all pairs' captions, not normalized, on the CPU."""

    def __init__(self, backbone: Backbone, pairs: Pairs):
        self._backbone, self._pairs = backbone, pairs
        self._known: Tensor | None = None

    def __getitem__(self, numbers: Sequence[int]) -> Tensor:
        """Embeddings [B, D] of pairs; the first call encodes all captions."""
        if self._known is None:
            self._known = self._encode()
        return self._known[list(numbers)]

    @torch.no_grad()
    def _encode(self) -> Tensor:
        count = len(self._pairs)
        parts = []
        for start in range(0, count, ROWS):
            rows = range(start, min(start + ROWS, count))
            texts = [self._pairs[number].text for number in rows]
            parts.append(self._backbone.encode_text(texts).float().cpu())
        return torch.cat(parts)
