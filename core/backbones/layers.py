"""Transformer layers that every tower shares, with plain `nn.Linear` projections.

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

    def queries(self, x: Tensor) -> Tensor:
        """[B, L, C] -> queries [B, heads, L, C/heads]."""
        return self.split(self.q_proj(x))

    def keys(self, x: Tensor) -> Tensor:
        """[B, L, C] -> keys [B, heads, L, C/heads]."""
        return self.split(self.k_proj(x))

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

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """[B, L, C] -> [B, L, C]; `mask` and `causal` as in `attend`."""
        attended = self.attend(self.queries(x), self.keys(x), self.values(x), mask, causal)
        out: Tensor = self.out_proj(attended)
        return out


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

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """[B, L, C] -> [B, L, C]; `mask` and `causal` as in `Attention.attend`."""
        return self.add_residuals(x, self.attn(self.ln_1(x), mask, causal))

    def add_residuals(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block after attention: `x` and `attended` [B, L, C] -> [B, L, C]."""
        x = x + self.ls_1(attended)
        out: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return out


def resize_positions(table: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """Position table for another grid: bicubic, no antialias; half types are resized in float32.

    Args:
        table: [prefix + g*g, C], a square grid in row-major order behind `prefix` rows (the class
            token's), which stay as they are.
        grid: (h, w) in patches.

    Returns: [prefix + h*w, C]; `table` itself where the grid is its own. Source: TCL's position
        rule (CVPR 2023).
    """
    side = round((table.shape[0] - prefix) ** 0.5)
    if grid == (side, side):
        return table
    square = at_least_float32(table[prefix:].T.reshape(1, -1, side, side))  # [1, C, g, g]
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    patches = resized.to(table.dtype).flatten(2)[0].T  # [h*w, C]
    return torch.cat([table[:prefix], patches])


def at_least_float32(x: Tensor) -> Tensor:
    """[...] -> [...]: half types become float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
