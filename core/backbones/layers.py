"""Transformer parts every tower shares, with plain `nn.Linear` projections.

`nn.MultiheadAttention` hides its projections in one packed parameter: LoRA wrappers miss it
silently and dense heads cannot reach single projections. Here each projection is a module, so both
are ordinary code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention: `out_proj(concat_heads softmax(q kᵀ / sqrt(head_dim)) v)`."""

    def __init__(self, width: int, heads: int, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=True)

    def split(self, x: Tensor) -> Tensor:
        """[B,L,C] -> [B,heads,L,C/heads]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """softmax(q kᵀ / sqrt(head_dim) + mask) v, heads concatenated, before `out_proj`.

        Args: q, k, v [B,heads,L,head_dim]; mask broadcastable to [B,heads,L,L], additive, or
        boolean (True = seen).
        Returns: [B,L,C].
        """
        return (
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
            .transpose(1, 2)
            .flatten(2)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """[B,L,C] -> [B,L,C]"""
        q, k, v = self.split(self.q_proj(x)), self.split(self.k_proj(x)), self.split(self.v_proj(x))
        return self.out_proj(self.attend(q, k, v, mask, causal))


class Block(nn.Module):
    """Pre-norm transformer block: `x + ls_1(attn(ln_1 x))`, then `x + ls_2(mlp(ln_2 x))`."""

    def __init__(
        self,
        ln_1: nn.Module,
        attn: Attention,
        ln_2: nn.Module,
        mlp: nn.Module,
        ls_1: nn.Module | None = None,
        ls_2: nn.Module | None = None,
    ):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = ln_1, attn, ln_2, mlp
        self.ls_1, self.ls_2 = ls_1 or nn.Identity(), ls_2 or nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """[B,L,C] -> [B,L,C]"""
        return self.add_residuals(x, self.attn(self.ln_1(x), mask, causal))

    def add_residuals(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block once attention is done: `x` and `attended` [B,L,C] -> [B,L,C]."""
        x = x + self.ls_1(attended)
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def resize_positions(table: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """Position table for another grid: bicubic, no antialias; the `prefix` rows (class token) stay as they are.

    Args: table [prefix + g*g, C]; grid (h, w). Returns: [prefix + h*w, C]. Source: TCL's position
    rule (CVPR 2023).
    """
    side = round((table.shape[0] - prefix) ** 0.5)
    if grid == (side, side):
        return table
    square = table[prefix:].T.reshape(1, -1, side, side)
    resized = F.interpolate(
        at_least_float32(square), size=grid, mode="bicubic", align_corners=False
    ).to(table.dtype)
    return torch.cat([table[:prefix], resized.flatten(2)[0].T])


def at_least_float32(x: Tensor) -> Tensor:
    """Half types become float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
