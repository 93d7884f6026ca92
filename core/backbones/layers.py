"""Transformer layers that every tower shares, with plain `nn.Linear` projections.

`nn.MultiheadAttention` hides its projections in one packed parameter: LoRA wrappers miss it
silently and dense heads cannot reach single projections. Here each projection is a module, so both
are ordinary code.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Rotation:
    """Rotary positions (RoPE): each pair of channels of a query or key is turned by an angle.

    cos, sin: of the angles, [L, head_dim], one row a token; 1 and 0 for tokens that are not turned.
    half: channel i is paired with i + head_dim/2 (DINOv3), else 2i with 2i + 1 (Perception
    Encoder).
    """

    cos: Tensor
    sin: Tensor
    half: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Queries or keys [B, heads, L, head_dim] -> the same, turned."""
        if self.half:
            first, second = x.chunk(2, dim=-1)
            turned = torch.cat([-second, first], dim=-1)
        else:
            turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return (x * self.cos + turned * self.sin).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention: `out_proj(concat_heads softmax(q kᵀ / sqrt(head_dim)) v)`."""

    def __init__(self, width: int, heads: int, bias: bool = True):
        """width: channels C, a multiple of `heads`; bias: of the q, k and v projections."""
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=True)

    def split(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, heads, L, C/heads]; each head takes consecutive channels."""
        batch, length, width = x.shape
        return x.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def queries(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """[B, L, C] -> queries [B, heads, L, C/heads], turned by `rotation` where there is one."""
        q = self.split(self.q_proj(x))
        return q if rotation is None else rotation(q)

    def keys(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """[B, L, C] -> keys [B, heads, L, C/heads], turned by `rotation` where there is one."""
        k = self.split(self.k_proj(x))
        return k if rotation is None else rotation(k)

    def values(self, x: Tensor) -> Tensor:
        """[B, L, C] -> values [B, heads, L, C/heads]."""
        return self.split(self.v_proj(x))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """softmax(q kᵀ / sqrt(head_dim) + mask) v, heads concatenated, before `out_proj`.

        Args:
            q, k, v: [B, heads, L, head_dim].
            mask: broadcastable to [B, heads, L, L], additive, or boolean (True = seen).
            causal: token i sees the tokens up to i only; not together with `mask`.

        Returns: [B, L, C].
        """
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return heads.transpose(1, 2).flatten(2)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        rotation: Rotation | None = None,
    ) -> Tensor:
        """[B, L, C] -> [B, L, C]; `mask` and `causal` as in `attend`, `rotation` of the tokens."""
        q, k = self.queries(x, rotation), self.keys(x, rotation)
        attended = self.attend(q, k, self.values(x), mask, causal)
        out: Tensor = self.out_proj(attended)
        return out


def unpack_attention(
    packed: Mapping[str, Tensor], heads: int, form: type[Attention] = Attention
) -> Attention:
    """Attention (of class `form`) with plain linears from packed weights, which are copied.

    packed: in_proj_weight [3C, C] (rows: queries, keys, values), in_proj_bias [3C] where there is
        one, out_proj.weight [C, C], out_proj.bias [C].
    """
    width = packed["out_proj.weight"].shape[0]
    with torch.device("meta"):
        attn = form(width, heads, bias="in_proj_bias" in packed)
    state = {"out_proj.weight": packed["out_proj.weight"], "out_proj.bias": packed["out_proj.bias"]}
    for kind in ("weight", "bias"):
        if f"in_proj_{kind}" in packed:
            thirds = packed[f"in_proj_{kind}"].detach().chunk(3)
            for name, rows in zip("qkv", thirds, strict=True):
                state[f"{name}_proj.{kind}"] = rows.clone()
    attn.load_state_dict(state, assign=True)
    return attn


class Block(nn.Module):
    """Pre-norm transformer block: `x + ls_1(attn(ln_1 x))`, then `x + ls_2(mlp(ln_2 x))`."""

    attn: Attention

    def __init__(
        self,
        ln_1: nn.Module,
        attn: Attention,
        ln_2: nn.Module,
        mlp: nn.Module,
        ls_1: nn.Module | None = None,
        ls_2: nn.Module | None = None,
    ):
        """ls_1, ls_2: layer scales; None is the identity."""
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = ln_1, attn, ln_2, mlp
        self.ls_1, self.ls_2 = ls_1 or nn.Identity(), ls_2 or nn.Identity()

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        rotation: Rotation | None = None,
    ) -> Tensor:
        """[B, L, C] -> [B, L, C]; the arguments are those of `Attention`."""
        return self.add_residuals(x, self.attn(self.ln_1(x), mask, causal, rotation))

    def add_residuals(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block after attention: `x` and `attended` [B, L, C] -> [B, L, C]."""
        x = x + self.ls_1(attended)
        out: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return out


@dataclass(frozen=True)
class PositionRule:
    """How a position table is resized to another grid.

    The default is TCL's rule (CVPR 2023), which CLIP's and SigLIP's tables get too.
    """

    mode: str = "bicubic"  # of torch's interpolate
    antialias: bool = False


USUAL_RULE = PositionRule()


def resize_positions(
    table: Tensor, grid: tuple[int, int], prefix: int, rule: PositionRule = USUAL_RULE
) -> Tensor:
    """Position table for another grid by `rule`; half types are resized in float32.

    Args:
        table: [prefix + g*g, C], a square grid in row-major order behind `prefix` rows (the class
            token's), which stay as they are.
        grid: (h, w) in patches.
        rule: interpolation.

    Returns: [prefix + h*w, C]; `table` itself where the grid is its own.
    """
    side = round((table.shape[0] - prefix) ** 0.5)
    if grid == (side, side):
        return table
    square = at_least_float32(table[prefix:].T.reshape(1, -1, side, side))  # [1, C, g, g]
    resized = F.interpolate(
        square, size=grid, mode=rule.mode, align_corners=False, antialias=rule.antialias
    )
    patches = resized.to(table.dtype).flatten(2)[0].T  # [h*w, C]
    return torch.cat([table[:prefix], patches])


def at_least_float32(x: Tensor) -> Tensor:
    """[...] -> [...]: half types become float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
