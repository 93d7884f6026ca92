"""Texts to embeddings: each distinct text once, short texts together to save padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone

TEXTS = 256  # encoded at a time
PADDING = 512  # tokens of padding that a batch of texts may hold before a second batch is cheaper


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Words or captions as they stand -> float32 [N, D] of unit length, on the backbone's device.

    Short texts are encoded with short ones, words apart from captions: a causal text tower then
    skips the padding. A text longer than the model's context is cut by its tokenizer. Gradient
    flows, if it is on.
    """
    if texts:
        tokens = backbone.tokenize(texts)
    else:
        tokens = torch.zeros(0, 1, dtype=torch.long, device=backbone.device)
    lengths, order = (tokens != 0).sum(1).sort(stable=True)
    batches = torch.split(order, _batches(lengths.tolist()))
    encoded = torch.cat([backbone.encode_tokens(tokens[rows]) for rows in batches])
    unsorted = torch.empty_like(encoded, dtype=torch.float32)
    return F.normalize(unsorted.index_copy_(0, order, encoded.float()), dim=-1)


def _batches(lengths: Sequence[int]) -> list[int]:
    """Sizes of the batches of texts of ascending lengths in tokens; [0] for none.

    At most `TEXTS` in each, with at most `PADDING` tokens of padding.
    """
    sizes, used = [0], 0
    for length in lengths:
        used += length
        if sizes[-1] == TEXTS or (sizes[-1] + 1) * length - used > PADDING:
            sizes.append(0)
            used = length
        sizes[-1] += 1
    return sizes
