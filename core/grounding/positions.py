"""Where a patch lies, as sines: a start for the position table of the encoder.

Learned from noise, the table must first find out which patches are neighbours. Sines of several
wave lengths say it from the first step, and their mean over some patches tells the patches' centre
and spread, which is what a box is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import TTDError
from .model import GroundingModel

LONGEST = 0.25  # waves on the canvas
SHORTEST = 2.5  # patches a wave


def sine_table(side: int, width: int) -> Tensor:
    """Sines and cosines of the centres' x, then of their y, over wave lengths in geometric steps.

    Args: side: patches of one side, at least 2; width: D, a multiple of 4.
    Returns: float32 [side * side, width], row-major; every vector has the norm sqrt(width), about
        that of a row drawn from the standard normal distribution.
    """
    if width % 4:
        raise TTDError(f"hidden {width}: sines need a multiple of 4")
    waves = torch.logspace(math.log10(LONGEST), math.log10(side / SHORTEST), width // 4)
    centres = (torch.arange(side) + 0.5) / side
    angles = 2 * math.pi * centres[:, None] * waves
    code = math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], dim=1)
    across = code.expand(side, side, -1)
    down = code[:, None].expand(side, side, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


@torch.no_grad()
def set_sines(model: GroundingModel) -> None:
    """Let the position table's rows of the patches begin as sines; they train as before."""
    side = model.config.image_size // model.backbone.patch
    table = model.vl_pos_embed.weight
    table[-side * side :] = sine_table(side, model.config.hidden).to(table)
