"""Dense heads: how the last attention of CLIP's image tower is changed so that every patch gets a feature of its own.

With `q, k, v` the projections of `ln_1(x)` and `O(A) = out_proj(concat_heads A v)`; heads with
`residual` go on as the block does (`x + O(A)`, then `+ MLP(LN2)`), the others return `O(A)` alone.
Afterwards the tower always drops the class token and applies its final norm and projection.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import TTDError
from .layers import Attention, Block

Grid = tuple[int, int]


@dataclass(frozen=True)
class DenseHead:
    """`attend(attn, ln_1(x) [B,L,C], grid, prefix) -> O(A) [B,L,C]`; `residual`: keep residual and MLP."""

    attend: Callable[[Attention, Tensor, Grid, int], Tensor]
    residual: bool
    source: str

    def __call__(self, block: Block, x: Tensor, grid: Grid, prefix: int) -> Tensor:
        """The last block: tokens [B,prefix+h*w,C] -> [B,prefix+h*w,C]."""
        attended = self.attend(block.attn, block.ln_1(x), grid, prefix)
        return block.add_residuals(x, attended) if self.residual else attended


def _vanilla(attn: Attention, x: Tensor, grid: Grid, prefix: int) -> Tensor:
    return attn(x)


def _value(attn: Attention, x: Tensor, grid: Grid, prefix: int) -> Tensor:
    return attn.out_proj(attn.v_proj(x))


def _query_query_key_key(attn: Attention, x: Tensor, grid: Grid, prefix: int) -> Tensor:
    q, k, v = attn.split(attn.q_proj(x)), attn.split(attn.k_proj(x)), attn.split(attn.v_proj(x))
    return attn.out_proj(attn.attend(q, q, v) + attn.attend(k, k, v))


def _key_key(attn: Attention, x: Tensor, grid: Grid, prefix: int) -> Tensor:
    k = attn.split(attn.k_proj(x))
    return attn.out_proj(attn.attend(k, k, attn.split(attn.v_proj(x))))


def _query_query(attn: Attention, x: Tensor, grid: Grid, prefix: int) -> Tensor:
    q = attn.split(attn.q_proj(x))
    return attn.out_proj(attn.attend(q, q, attn.split(attn.v_proj(x))))


def _key_key_neighbours(attn: Attention, x: Tensor, grid: Grid, prefix: int) -> Tensor:
    k = attn.split(attn.k_proj(x))
    window = gaussian_window(grid, prefix, sigma=5.0).to(x)
    return attn.out_proj(attn.attend(k, k, attn.split(attn.v_proj(x)), mask=window))


def gaussian_window(grid: Grid, prefix: int, sigma: float) -> Tensor:
    """NACLIP's additive window `W_ij = exp(-d_ij² / (2 sigma²))`, d in patches; zero for prefix rows and columns.

    Returns: [prefix+h*w, prefix+h*w], values in [0, 1], peak 1 on the diagonal of the patches.
    """
    h, w = grid
    rows, columns = (
        torch.exp(-((torch.arange(n)[:, None] - torch.arange(n)) ** 2) / (2 * sigma**2))
        for n in (h, w)
    )
    window = torch.zeros(prefix + h * w, prefix + h * w)
    window[prefix:, prefix:] = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(
        h * w, h * w
    )
    return window


HEADS: dict[str, DenseHead] = {
    "vanilla": DenseHead(_vanilla, True, "CLIP"),
    "maskclip": DenseHead(_value, True, "MaskCLIP as TCL uses it"),
    "maskclip-value": DenseHead(_value, False, "MaskCLIP as re-run in ClearCLIP"),
    "sclip": DenseHead(_query_query_key_key, True, "SCLIP"),
    "naclip": DenseHead(_key_key_neighbours, False, "NACLIP"),
    "kk": DenseHead(_key_key, False, "key-key attention"),
    "clearclip": DenseHead(_query_query, False, "ClearCLIP"),
}


def check_head(name: str, served: tuple[str, ...], where: str) -> str:
    """`name` when `where` serves it; TTDError listing the served heads otherwise."""
    if name not in served:
        raise TTDError(
            f"dense head {name!r} is not available for {where}: choose one of {', '.join(served)}"
        )
    return name
