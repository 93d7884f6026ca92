"""The vision-language encoder and the box head: DETR's post-norm transformer, an MLP on top.

Parameters have the names and shapes of CLIP-VG's checkpoints.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TTDError
from .config import ModelConfig

LONGEST = 0.25  # waves on the canvas
SHORTEST = 2.5  # patches a wave


class EncoderLayer(nn.Module):
    """Attention and MLP, each followed by a residual and LayerNorm; positions on query and key."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width, hidden = config.hidden, config.feedforward
        self.self_attn = nn.MultiheadAttention(
            width, config.heads, dropout=config.dropout, batch_first=True
        )
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, positions: Tensor, ignored: Tensor, queries: int, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """One layer, for the first `queries` tokens alone.

        Args: x [B, L, D]; positions [L, D]; ignored bool [B, L], True where a token is not seen.
        Returns: [B, queries, D], and with `weights` the attention [B, queries, L], mean over heads.
        """
        keys = x + positions
        attended, seen = self.self_attn(
            keys[:, :queries], keys, x, key_padding_mask=ignored, need_weights=weights
        )
        x = self.norm1(x[:, :queries] + self.dropout(attended))
        inner = self.dropout(F.relu(self.linear1(x)))
        out: Tensor = self.norm2(x + self.dropout(self.linear2(inner)))
        return out, seen


class Encoder(nn.Module):
    """The layers one after another, without a final norm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))


class VisionLanguageTransformer(nn.Module):
    """`vl_transformer`: what REG has become after every layer has mixed all tokens."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.encoder = Encoder(config)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, x: Tensor, positions: Tensor, ignored: Tensor, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The output at the first token.

        Only the first token of the last layer is asked for, so only it is computed there: exact.

        Args: x [B, L, D]; positions [L, D]; ignored bool [B, L].
        Returns: [B, D], and with `weights` the last layer's attention of the first token [B, L].
        """
        layers = list(self.encoder.layers)
        seen = None
        for layer in layers:
            last = layer is layers[-1]
            queries = 1 if last else x.shape[1]
            x, seen = layer(x, positions, ignored, queries, weights and last)
        return x[:, 0], None if seen is None else seen[:, 0]


class BoxHead(nn.Module):
    """Three linear layers with ReLU between, sigmoid at the end: [B, D] -> cxcywh [B, 4]."""

    def __init__(self, hidden: int):
        super().__init__()
        sizes = (hidden, hidden, hidden, 4)
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, 4] in (0, 1)."""
        for layer in list(self.layers)[:-1]:
            x = F.relu(layer(x))
        return torch.sigmoid(self.layers[-1](x))


def sine_table(side: int, width: int) -> Tensor:
    """Sines and cosines of the centres' x, then of their y, over wave lengths in geometric steps.

    Learned from noise, a table must first find out which patches are neighbours. Sines say it from
    the first step, and their mean over some patches tells the patches' centre and spread, which is
    what a box is.

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
