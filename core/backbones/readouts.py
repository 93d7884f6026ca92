"""What follows the last block of an image tower: one pooled feature, or one per patch.

And what they are for: the similarity map, the cosine of every patch with every text.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .heads import HEADS


class Readout(nn.Module):
    """A tower's own final norm, pooling and projection.

    heads: the dense heads that its features are meaningful with; default_head: one of them.
    """

    heads: tuple[str, ...]
    default_head: str

    def dense(self, tokens: Tensor) -> Tensor:
        """Patch tokens [B, L, C] -> [B, L, D]."""
        raise NotImplementedError

    def pooled(self, x: Tensor, prefix: int) -> Tensor:
        """All tokens [B, prefix+L, C] -> [B, D]."""
        raise NotImplementedError


class TokenReadout(Readout):
    """Final norm and projection of a tower pooled by its class token or the mean of its patches."""

    heads = tuple(HEADS)

    def __init__(
        self, ln_post: nn.Module, proj: nn.Parameter | None, pool: str, norm_after_pool: bool
    ):
        """A readout from the tower's own parts.

        Args:
            ln_post: norm over the last dimension.
            proj: [C, D]; None: D = C, no projection.
            pool: "tok" (class token) or "avg" (mean of the patches).
            norm_after_pool: with "avg", average first and normalize then.
        """
        super().__init__()
        self.ln_post, self.proj = ln_post, proj
        self.pool, self.norm_after_pool = pool, norm_after_pool
        self.default_head = "maskclip" if pool == "tok" else "vanilla"

    def project(self, x: Tensor) -> Tensor:
        """ln_post and the projection on any [..., C] -> [..., D]."""
        normed: Tensor = self.ln_post(x)
        return normed if self.proj is None else normed @ self.proj

    def dense(self, tokens: Tensor) -> Tensor:
        """Patch tokens [B, L, C] -> [B, L, D]."""
        return self.project(tokens)

    def pooled(self, x: Tensor, prefix: int) -> Tensor:
        """All tokens [B, prefix+L, C] -> [B, D]."""
        if self.pool == "tok":
            return self.project(x[:, 0])
        if self.norm_after_pool:
            return self.project(x[:, prefix:].mean(1))
        # The projection is linear: it commutes with the mean.
        return self.project(x[:, prefix:]).mean(1)


class MapReadout(Readout):
    """Attention ("map") pooling of timm's SigLIP and Perception Encoder towers.

    Dense features take the pool's value path at every token.
    """

    heads = ("vanilla", "maskclip")
    default_head = "vanilla"

    def __init__(self, norm: nn.Module, attn_pool: nn.Module, after: nn.Module):
        """A readout from the tower's own parts.

        Args:
            norm: before the pool.
            attn_pool: timm's `AttentionPoolLatent`.
            after: [..., C] -> [..., D].
        """
        super().__init__()
        self.norm, self.after = norm, after
        self.attn_pool: Any = attn_pool  # timm has no types

    def dense(self, tokens: Tensor) -> Tensor:
        """Patch tokens [B, L, C] -> [B, L, D]: the pool's output if it saw this token alone."""
        value = self.attn_pool.kv(self.norm(tokens)).chunk(2, dim=-1)[1]
        y = self.attn_pool.proj(value)
        out: Tensor = self.after(y + self.attn_pool.mlp(self.attn_pool.norm(y)))
        return out

    def pooled(self, x: Tensor, prefix: int) -> Tensor:
        """All tokens [B, prefix+L, C] -> [B, D]; the pool sees the class token too."""
        out: Tensor = self.after(self.attn_pool(self.norm(x)))
        return out


def cosine_maps(pixels: Tensor, text: Tensor) -> Tensor:
    """Similarity maps of embeddings that are normalized already; gradient flows.

    pixels [B, D, h, w] and text [N, D], or text [B, N, D] for N texts of its own for each image,
    vectors over D of unit length. Returns [B, N, h, w] in [-1, 1]. Source: TTD, S = <V_xy, w>.
    """
    if text.ndim == 2:
        return torch.einsum("bdhw,nd->bnhw", pixels, text)
    return torch.einsum("bdhw,bnd->bnhw", pixels, text)
