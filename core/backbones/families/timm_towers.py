"""timm's image towers with attention ("map") pooling: SigLIP's and Perception Encoder's.

One adapter for each class of timm's that open_clip wraps; `TOWERS` lists them. SigLIP 1 and 2 are
timm's `VisionTransformer`; Perception Encoder (PE-Core) is its `Eva`, with rotary positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...errors import TTDError
from ..layers import Attention, Block, PositionRule, unpack_attention
from ..readouts import MapReadout
from ..towers import VisionTower
from .rotary import PerceptionTurns

Timm = Any  # a module of timm's, which has no types
# Parts that an attention of timm's may have and ours does not
NORMS = ("q_norm", "k_norm", "norm")
SUPPORTED = "ViTs with map pooling (SigLIP, SigLIP 2, PE-Core)"


@dataclass(frozen=True)
class TimmTower:
    """One class of timm's. obstacle: what of a trunk is not supported, None: nothing; build."""

    obstacle: Callable[[Timm], str | None]
    build: Callable[[Timm, nn.Module, str], VisionTower]


def check_timm(trunk: Timm, name: str) -> None:
    """TTDError naming the timm tower `trunk` of the model `name` where it is not supported."""
    kind = f"{name}: timm tower {type(trunk).__name__}"
    tower = TOWERS.get(type(trunk).__name__)
    pool: Timm = getattr(trunk, "attn_pool", None)
    if tower is None or type(pool).__name__ != "AttentionPoolLatent":
        raise TTDError(f"{kind} is not supported; of timm's towers only {SUPPORTED} are")
    if pool.pos_embed is not None or pool.mlp is None or trunk.pos_embed is None:
        raise TTDError(f"{kind} with pooling of another form than SigLIP's is not supported")
    if obstacle := tower.obstacle(trunk):
        raise TTDError(f"{kind} with {obstacle} is not supported")


def timm_tower(visual: Timm, name: str) -> VisionTower:
    """The image tower in open_clip's `TimmModel`, whose trunk `check_timm` let pass."""
    trunk = visual.trunk
    after = nn.Sequential(trunk.fc_norm, trunk.head, visual.head)
    return TOWERS[type(trunk).__name__].build(trunk, after, f"{name}: timm tower")


# --- SigLIP ---


def _siglip_obstacle(trunk: Timm) -> str | None:
    return "class tokens" if trunk.num_prefix_tokens else None


def _siglip(trunk: Timm, after: nn.Module, kind: str) -> VisionTower:
    return VisionTower(
        trunk.patch_embed.proj,
        None,
        nn.Parameter(trunk.pos_embed[0].detach()),
        trunk.norm_pre,
        [_siglip_block(block, kind) for block in trunk.blocks],
        MapReadout(trunk.norm, trunk.attn_pool, after),
    )


def _siglip_block(block: Timm, kind: str) -> Block:
    attn = _attention(block.attn, kind)
    return Block(block.norm1, attn, block.norm2, block.mlp, block.ls1, block.ls2)


# --- Perception Encoder ---


def _perception_obstacle(trunk: Timm) -> str | None:
    rope: Timm = getattr(trunk, "rope", None)
    block = trunk.blocks[0]
    if type(block).__name__ != "EvaBlock" or type(block.attn).__name__ != "AttentionRope":
        return f"blocks of the form {type(block).__name__} / {type(block.attn).__name__}"
    if type(rope).__name__ != "RotaryEmbeddingCat" or rope.in_pixels:
        return "other positions than Perception Encoder's"
    if rope.grid_indexing != "xy" or getattr(block.attn, "rotate_half", False):
        return "rotary positions of another layout than Perception Encoder's"
    class_tokens = 0 if trunk.cls_token is None else 1
    if trunk.num_prefix_tokens != class_tokens or trunk.no_embed_class:
        return "register tokens"
    return None


def _perception(trunk: Timm, after: nn.Module, kind: str) -> VisionTower:
    prefix = trunk.num_prefix_tokens
    heads = trunk.blocks[0].attn.num_heads
    turns = PerceptionTurns(
        head_dim=trunk.embed_dim // heads,
        prefix=prefix,
        offset=float(trunk.rope.grid_offset),
        temperature=float(trunk.rope.temperature),
    )
    return VisionTower(
        trunk.patch_embed.proj,
        nn.Parameter(trunk.cls_token[0, 0].detach()) if prefix else None,
        nn.Parameter(trunk.pos_embed[0].detach()),
        trunk.norm_pre,
        [_perception_block(block, kind) for block in trunk.blocks],
        MapReadout(trunk.norm, trunk.attn_pool, after),
        rule=PositionRule("bilinear"),
        turns=turns,
    )


def _perception_block(block: Timm, kind: str) -> Block:
    attn = _attention(block.attn, kind)
    scales = [_LayerScale(gamma) for gamma in (block.gamma_1, block.gamma_2)]
    return Block(block.norm1, attn, block.norm2, block.mlp, *scales)


class _LayerScale(nn.Module):
    """`x * gamma`; the identity without a gamma."""

    def __init__(self, gamma: nn.Parameter | None):
        super().__init__()
        self.gamma = gamma

    def forward(self, x: Any) -> Any:
        """x [..., D] times gamma [D]; x where there is none."""
        return x if self.gamma is None else x * self.gamma


def _attention(attn: Timm, kind: str) -> Attention:
    norms = [getattr(attn, norm, nn.Identity()) for norm in NORMS]
    if not all(isinstance(norm, nn.Identity) for norm in norms):
        raise TTDError(f"{kind} with normalized queries or keys is not supported")
    if getattr(attn, "gate", None) is not None or attn.qkv is None:
        raise TTDError(f"{kind} with gated or separate projections is not supported")
    packed = {
        "in_proj_weight": attn.qkv.weight,
        "out_proj.weight": attn.proj.weight,
        "out_proj.bias": attn.proj.bias,
    }
    if attn.qkv.bias is not None:
        packed["in_proj_bias"] = attn.qkv.bias
    return unpack_attention(packed, attn.num_heads)


TOWERS = {
    "VisionTransformer": TimmTower(_siglip_obstacle, _siglip),
    "Eva": TimmTower(_perception_obstacle, _perception),
}
