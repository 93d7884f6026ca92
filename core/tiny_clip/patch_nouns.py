"""Which noun each patch of a world's training images shows: a start for image towers.

From captions alone a small tower needs some 200,000 samples before it knows a noun, and knows
colours and scenes long before. Where a model of another world is wanted that knows its nouns, and
not how it came by them, a linear layer on its patches that tells nouns apart takes a tenth of that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TTDError
from ..utils.config import build
from ..world.looks import look_of
from ..world.sample import class_map
from ..world.writer import WorldConfig, made_with

NOTHING = -1  # a patch that shows no thing


def noun_maps(world: Path, count: int) -> Tensor:
    """The noun at each pixel of the first `count` training images, uint8 [N, S, S].

    0 where there is no thing, 1 + i for the i-th noun of the world's look. They are drawn again by
    what world.yaml says of the world. TTDError where it does not say it.
    """
    recorded = made_with(world / "world.yaml")
    if recorded is None:
        raise TTDError(
            f"{world}/world.yaml: does not say how the world was made; patch_weight needs the "
            "nouns of its patches: make it by tools/make_world.py"
        )
    config = build(WorldConfig, recorded, f"{world}/world.yaml: made_with")
    look = look_of(config.look)
    if count > config.train:
        raise TTDError(f"{world}: {count} training images, world.yaml says {config.train}")
    maps = np.empty((count, config.size, config.size), np.uint8)
    for i in range(count):
        sample = look.make(config.seed, "train", i, config.size, config.noise)
        maps[i] = class_map(sample, look.nouns)
    return torch.from_numpy(maps)


def patch_nouns(maps: Tensor, cells: int) -> Tensor:
    """The noun in the middle of each of cells x cells patches, from 0; `NOTHING` for none.

    maps [B, S, S], 0 for no thing -> long [B, cells * cells], row by row.
    """
    middles = ((torch.arange(cells) + 0.5) * maps.shape[-1] / cells).long()
    return maps[:, middles][:, :, middles].flatten(1).long() - 1


def patch_loss(logits: Tensor, nouns: Tensor) -> Tensor:
    """Mean cross-entropy over the patches that show a thing, a scalar; 0 where none does.

    logits [B, P, N], nouns long [B, P], `NOTHING` elsewhere.
    """
    shown = nouns != NOTHING
    if not shown.any():
        return logits.sum() * 0
    return F.cross_entropy(logits[shown].float(), nouns[shown])
