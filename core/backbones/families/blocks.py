"""Transformer blocks of weight files that follow DINOv2's code: TIPSv2's and dino.txt's."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Attention, Block, unpack_attention
from .state import State


@dataclass(frozen=True)
class BlockNames:
    """What the parts of a block are called in a file; `packed` has a place for weight or bias.

    mlp: the prefix of its linears; layers: the two of a plain MLP.
    """

    norms: tuple[str, str]
    packed: str
    projection: str
    mlp: str
    layers: tuple[str, str] = ("fc1", "fc2")


VISION = BlockNames(("norm1", "norm2"), "attn.qkv.{}", "attn.proj", "mlp")


class LayerScale(nn.Module):
    """`x * gamma`, a factor for each channel."""

    def __init__(self, gamma: Tensor):
        """gamma: [C]."""
        super().__init__()
        self.gamma = nn.Parameter(gamma)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return x * self.gamma


class SwiGLU(nn.Module):
    """`w3(silu(w1 x) * w2 x)`; w1 and w2 may be packed into w12, w1 first."""

    w1: nn.Linear
    w2: nn.Linear
    w12: nn.Linear
    w3: nn.Linear

    def __init__(self, **linears: nn.Linear):
        """linears: w1, w2, w3, or w12, w3."""
        super().__init__()
        for name, linear in linears.items():
            self.add_module(name, linear)
        self._packed = "w12" in linears

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        if self._packed:
            gate, value = self.w12(x).chunk(2, dim=-1)
        else:
            gate, value = self.w1(x), self.w2(x)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


def read_block(
    state: State,
    prefix: str,
    width: int,
    heads: int,
    *,
    names: BlockNames,
    eps: float,
    act: type[nn.Module] = nn.GELU,
    attention: type[Attention] = Attention,
) -> Block:
    """The block whose tensors begin with `prefix`; layer scales and SwiGLU where the file has them.

    Args:
        state: of the file. prefix: such as "blocks.0.". width: channels C, a multiple of `heads`.
        names: of its parts. eps: of its norms. act: of a plain MLP.
        attention: the class of its attention.

    Errors: TTDError as `State`.
    """
    parts = [f"{prefix}{norm}" for norm in names.norms]
    scales = [_scale(state, f"{prefix}ls{number}.gamma", width) for number in (1, 2)]
    attn = _attention(state, prefix, width, names)
    own = unpack_attention(attn, heads, attention)
    mlp = _mlp(state, f"{prefix}{names.mlp}.", width, names.layers, act)
    first, second = (state.norm(part, width, eps) for part in parts)
    return Block(first, own, second, mlp, *scales)


def _attention(state: State, prefix: str, width: int, names: BlockNames) -> dict[str, Tensor]:
    """Packed weights as `unpack_attention` takes them."""
    weight, bias = (prefix + names.packed.format(kind) for kind in ("weight", "bias"))
    projection = prefix + names.projection
    packed = {
        "in_proj_weight": state.take(weight, 3 * width, width),
        "out_proj.weight": state.take(f"{projection}.weight", width, width),
        "out_proj.bias": state.take(f"{projection}.bias", width),
    }
    if not state.has(bias):
        return packed
    packed["in_proj_bias"] = state.take(bias, 3 * width)
    mask = f"{bias}_mask"  # DINOv3 keeps the keys' bias at zero by a mask
    if state.has(mask):
        packed["in_proj_bias"] = packed["in_proj_bias"] * state.take(mask, 3 * width)
    return packed


def _mlp(
    state: State, prefix: str, width: int, layers: tuple[str, str], act: type[nn.Module]
) -> nn.Module:
    if state.has(f"{prefix}w12.weight"):
        w12 = state.linear(f"{prefix}w12", width)
        return SwiGLU(w12=w12, w3=state.linear(f"{prefix}w3", w12.out_features // 2, width))
    if state.has(f"{prefix}w1.weight"):
        w1 = state.linear(f"{prefix}w1", width)
        w2 = state.linear(f"{prefix}w2", width, w1.out_features)
        w3 = state.linear(f"{prefix}w3", w1.out_features, width)
        return SwiGLU(w1=w1, w2=w2, w3=w3)
    first = state.linear(prefix + layers[0], width)
    second = state.linear(prefix + layers[1], first.out_features, width)
    return nn.Sequential(OrderedDict({layers[0]: first, "act": act(), layers[1]: second}))


def _scale(state: State, name: str, width: int) -> LayerScale | None:
    return LayerScale(state.take(name, width)) if state.has(name) else None
