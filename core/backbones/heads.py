"""Dense heads: how CLIP's last image attention is changed so that every patch gets a feature.

With `q, k, v` the projections of `ln_1(x)` and `O(A) = out_proj(concat_heads A v)`; heads with
`residual` continue as the block does (`x + O(A)`, then `+ MLP(LN2)`), the others return `O(A)`
alone. Afterwards the tower always drops the class token and applies its final norm and projection.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import TTDError
from .layers import Attention, Block, Rotation

Grid = tuple[int, int]
Turn = Rotation | None  # of queries and keys


@dataclass(frozen=True)
class DenseHead:
    """One dense head.

    attend: `attend(attn, ln_1(x) [B, L, C], grid, prefix, rotation) -> A v [B, L, C]`, before
        `out_proj`;
    residual: keep the block's residual connection and its MLP;
    source: where the head comes from.
    """

    attend: Callable[[Attention, Tensor, Grid, int, Turn], Tensor]
    residual: bool
    source: str

    def __call__(
        self, block: Block, x: Tensor, grid: Grid, prefix: int, rotation: Turn = None
    ) -> Tensor:
        """The last block: tokens [B, prefix+h*w, C] -> [B, prefix+h*w, C]; grid (h, w)."""
        attn = block.attn
        attended: Tensor = attn.out_proj(self.attend(attn, block.ln_1(x), grid, prefix, rotation))
        if self.residual:
            return block.add_residuals(x, attended)
        return attended


def _vanilla(attn: Attention, x: Tensor, grid: Grid, prefix: int, turn: Turn) -> Tensor:
    return attn.attend(attn.queries(x, turn), attn.keys(x, turn), attn.values(x))


def _value(attn: Attention, x: Tensor, grid: Grid, prefix: int, turn: Turn) -> Tensor:
    values: Tensor = attn.v_proj(x)  # A is the identity
    return values


def _query_query_key_key(attn: Attention, x: Tensor, grid: Grid, prefix: int, turn: Turn) -> Tensor:
    q, k, v = attn.queries(x, turn), attn.keys(x, turn), attn.values(x)
    return attn.attend(q, q, v) + attn.attend(k, k, v)


def _key_key(attn: Attention, x: Tensor, grid: Grid, prefix: int, turn: Turn) -> Tensor:
    k = attn.keys(x, turn)
    return attn.attend(k, k, attn.values(x))


def _query_query(attn: Attention, x: Tensor, grid: Grid, prefix: int, turn: Turn) -> Tensor:
    q = attn.queries(x, turn)
    return attn.attend(q, q, attn.values(x))


def _key_key_neighbours(attn: Attention, x: Tensor, grid: Grid, prefix: int, turn: Turn) -> Tensor:
    k = attn.keys(x, turn)
    window = gaussian_window(grid, prefix, sigma=5.0).to(x)
    return attn.attend(k, k, attn.values(x), mask=window)


def gaussian_window(grid: Grid, prefix: int, sigma: float) -> Tensor:
    """NACLIP's additive window `W_ij = exp(-d_ij² / (2 sigma²))`, d the distance in patches.

    Args:
        grid: (h, w) in patches, row-major.
        prefix: tokens before the patches; their rows and columns are zero.
        sigma: in patches.

    Returns: [prefix+h*w, prefix+h*w], values in [0, 1], peak 1 on the diagonal of the patches.
    """
    h, w = grid
    down, across = _gaussian(h, sigma), _gaussian(w, sigma)
    window = torch.zeros(prefix + h * w, prefix + h * w)
    patches = down[:, None, :, None] * across[None, :, None, :]  # [h, w, h, w]
    window[prefix:, prefix:] = patches.reshape(h * w, h * w)
    return window


def _gaussian(n: int, sigma: float) -> Tensor:
    """[n, n]: `exp(-(i - j)² / (2 sigma²))`."""
    offset = torch.arange(n)[:, None] - torch.arange(n)
    return torch.exp(-(offset**2) / (2 * sigma**2))


HEADS: dict[str, DenseHead] = {
    "vanilla": DenseHead(_vanilla, True, "CLIP"),
    "maskclip": DenseHead(_value, True, "MaskCLIP as TCL uses it"),
    "maskclip-value": DenseHead(_value, False, "MaskCLIP as re-run in ClearCLIP"),
    "sclip": DenseHead(_query_query_key_key, True, "SCLIP"),
    "naclip": DenseHead(_key_key_neighbours, False, "NACLIP"),
    "kk": DenseHead(_key_key, False, "key-key attention"),
    "clearclip": DenseHead(_query_query, False, "ClearCLIP"),
}


def check_head(name: str, supported: tuple[str, ...], where: str) -> str:
    """`name` where it is one of `supported`; otherwise a TTDError that lists those of `where`."""
    if name not in supported:
        choices = ", ".join(supported)
        raise TTDError(f"dense head {name!r} is not available for {where}: choose one of {choices}")
    return name
