"""Which noun each patch of a world's training images shows: a start for image towers.

A small tower learns colours and scenes from captions long before it learns nouns. Where a model of
another world is wanted that knows its nouns, and not how it came by them, a linear layer on its
patches that tells nouns apart is a shorter way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TTDError
from ..utils.config import build
from ..world.looks import look_of
from ..world.sample import class_map
from ..world.writer import WorldConfig, check_config, made_with

NOTHING = -1  # a patch that shows no thing
MEND = "make the world again with tools/make_world.py --overwrite"


def noun_maps(
    world: Path,
    texts: Sequence[str],
    side: int,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Tensor, int]:
    """The noun at each pixel of the training images, uint8 [N, side, side], and how many there are.

    0 where there is no thing, 1 + i for the i-th noun of the world's look. The images are drawn
    again by what world.yaml says of the world, which takes some milliseconds each. texts: their
    captions, in order. progress: called after every image with the number of those drawn. TTDError
    where world.yaml does not say it, or says it of another world.
    """
    mark = world / "world.yaml"
    recorded = made_with(mark)
    if recorded is None:
        raise TTDError(f"{mark}: does not say how the world was made, which patch_weight needs")
    try:
        config = build(WorldConfig, recorded, "made_with")
        check_config(config)
    except TTDError as error:
        raise TTDError(f"{mark}: {error}") from None
    if (config.train, config.size) != (len(texts), side):
        raise TTDError(
            f"{world}: {len(texts)} training images of {side} pixels, world.yaml says "
            f"{config.train} of {config.size}: {MEND}"
        )
    look = look_of(config.look)
    maps = np.empty((len(texts), side, side), np.uint8)
    for i, text in enumerate(texts):
        sample = look.make(config.seed, "train", i, side, config.noise)
        if sample.text != text:
            raise TTDError(f"{world}: {sample.id} is not what world.yaml says: {MEND}")
        maps[i] = class_map(sample, look.nouns)
        progress(i + 1)
    return torch.from_numpy(maps), len(look.nouns)


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
