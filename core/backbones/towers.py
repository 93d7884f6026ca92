"""The two towers of CLIP as one image and one text module, whatever library their weights came from."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TTDError
from .heads import HEADS
from .layers import Block, resize_positions


class TokenReadout(nn.Module):
    """Final norm and projection of a tower pooled by its class token (`tok`) or the mean of its patches (`avg`)."""

    heads = tuple(HEADS)

    def __init__(
        self, ln_post: nn.Module, proj: nn.Parameter | None, pool: str, norm_after_pool: bool
    ):
        super().__init__()
        self.ln_post, self.proj, self.pool, self.norm_after_pool = (
            ln_post,
            proj,
            pool,
            norm_after_pool,
        )
        self.default_head = "maskclip" if pool == "tok" else "vanilla"

    def project(self, x: Tensor) -> Tensor:
        """ln_post and the projection on any [..., C] -> [..., D]"""
        x = self.ln_post(x)
        return x if self.proj is None else x @ self.proj

    def dense(self, tokens: Tensor) -> Tensor:
        """Patch tokens [B,L,C] -> [B,L,D]"""
        return self.project(tokens)

    def pooled(self, x: Tensor, prefix: int) -> Tensor:
        """All tokens [B,prefix+L,C] -> [B,D]"""
        if self.pool == "tok":
            return self.project(x[:, 0])
        if self.norm_after_pool:
            return self.project(x[:, prefix:].mean(1))
        return self.project(x[:, prefix:]).mean(
            1
        )  # the projection is linear: it commutes with the mean


class MapReadout(nn.Module):
    """Attention ("map") pooling of timm's SigLIP towers; dense features take the pool's value path at every token."""

    heads = ("vanilla", "maskclip")
    default_head = "vanilla"

    def __init__(self, norm: nn.Module, attn_pool: nn.Module, after: nn.Module):
        super().__init__()
        self.norm, self.attn_pool, self.after = norm, attn_pool, after

    def dense(self, tokens: Tensor) -> Tensor:
        """Patch tokens [B,L,C] -> [B,L,D]: what the pool would output if it looked at this token alone."""
        value = self.attn_pool.kv(self.norm(tokens)).chunk(2, dim=-1)[1]
        y = self.attn_pool.proj(value)
        return self.after(y + self.attn_pool.mlp(self.attn_pool.norm(y)))

    def pooled(self, x: Tensor, prefix: int) -> Tensor:
        """All tokens [B,L,C] -> [B,D]"""
        return self.after(self.attn_pool(self.norm(x)))


class VisionTower(nn.Module):
    """A ViT that gives the pooled image feature and, through a dense head, one feature per patch. Any grid size."""

    def __init__(
        self,
        conv: nn.Conv2d,
        class_embedding: nn.Parameter | None,
        positional_embedding: nn.Parameter,
        ln_pre: nn.Module,
        blocks: list[Block],
        readout: TokenReadout | MapReadout,
    ):
        super().__init__()
        self.conv, self.class_embedding, self.positional_embedding = (
            conv,
            class_embedding,
            positional_embedding,
        )
        self.ln_pre, self.blocks, self.readout = ln_pre, nn.ModuleList(blocks), readout
        self.patch = conv.kernel_size[0]
        self.prefix = 0 if class_embedding is None else 1

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """[B,3,H,W], H and W multiples of the patch -> tokens [B,prefix+h*w,C] before the first block, and (h, w)."""
        x = self.conv(images)  # (B, C, h, w)
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)  # (B, h*w, C)
        if self.class_embedding is not None:
            x = torch.cat([self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        return self.ln_pre(x + resize_positions(self.positional_embedding, grid, self.prefix)), grid

    def before_block(self, images: Tensor, index: int) -> tuple[Tensor, tuple[int, int]]:
        """Tokens [B,prefix+h*w,C] that enter block `index`, and the grid (h, w)."""
        x, grid = self.embed(images)
        for block in self.blocks[:index]:
            x = block(x)
        return x, grid

    def last_block(self, x: Tensor, grid: tuple[int, int], head: str) -> Tensor:
        """The last block with a dense head: tokens [B,prefix+h*w,C] -> patch tokens [B,h*w,C], before the readout."""
        return HEADS[head](self.blocks[-1], x, grid, self.prefix)[:, self.prefix :]

    def dense(self, images: Tensor, head: str) -> Tensor:
        """[B,3,H,W] -> [B,D,h,w], not normalized."""
        x, grid = self.before_block(images, len(self.blocks) - 1)
        return to_map(self.readout.dense(self.last_block(x, grid, head)), grid)

    def pooled(self, images: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,D], not normalized."""
        x, _ = self.before_block(images, len(self.blocks))
        return self.readout.pooled(x, self.prefix)


class TextTower(nn.Module):
    """CLIP's text transformer; batches are cut to their longest prompt where that cannot change the answer."""

    def __init__(
        self,
        token_embedding: nn.Embedding,
        positional_embedding: nn.Parameter,
        blocks: list[Block],
        ln_final: nn.Module,
        projection: nn.Module,
        *,
        pool: str,
        causal: bool,
        eos_id: int | None = None,
        pad_id: int | None = None,
    ):
        super().__init__()
        self.token_embedding, self.positional_embedding = token_embedding, positional_embedding
        self.blocks, self.ln_final, self.projection = nn.ModuleList(blocks), ln_final, projection
        self.pool, self.causal, self.eos_id, self.pad_id = pool, causal, eos_id, pad_id

    def end_positions(self, tokens: Tensor) -> Tensor:
        """Token ids [N,L] -> index [N] of the token whose output is the embedding."""
        if self.pool == "first":
            return tokens.new_zeros(tokens.shape[0])
        if self.pool == "last":
            return tokens.new_full((tokens.shape[0],), tokens.shape[1] - 1)
        return (
            tokens.argmax(-1) if self.pool == "argmax" else (tokens == self.eos_id).int().argmax(-1)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [N,L] -> [N,D], not normalized. TTDError for ids outside the vocabulary."""
        if (
            tokens.numel()
            and not 0
            <= int(tokens.min())
            <= int(tokens.max())
            < self.token_embedding.num_embeddings
        ):
            raise TTDError(
                f"token ids go up to {int(tokens.max())} but this model's vocabulary has "
                f"{self.token_embedding.num_embeddings} entries: its weights and tokenizer do not belong "
                "together"
            )
        ends = self.end_positions(tokens)
        if self.causal and self.pool in ("argmax", "eos") and tokens.numel():
            # Later tokens are invisible to the end token of a causal tower: cutting them is exact
            # (1e-6).
            tokens = tokens[:, : int(ends.max()) + 1]
        mask = None if self.pad_id is None else (tokens != self.pad_id)[:, None, None, :]
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, mask, causal=self.causal)
        x = x[
            torch.arange(len(x), device=x.device), ends
        ]  # the norm is per token: pool first, it is cheaper
        return self.projection(self.ln_final(x))


class MatrixProjection(nn.Module):
    """`x @ weight`: CLIP stores its projections transposed to `nn.Linear`."""

    def __init__(self, weight: nn.Parameter):
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., D]"""
        return x @ self.weight


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens [B,h*w,C], row-major -> [B,C,h,w]"""
    return tokens.transpose(1, 2).unflatten(2, grid)


def pad_to_multiple(images: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Zero-pad [B,3,H,W] centred so that H and W become multiples; the smaller half goes top/left.

    Returns: padded images and (top, left). Zeros are the mean colour, since images are normalized.
    Source: TCL.
    """
    height, width = images.shape[-2:]
    down, across = -height % multiple, -width % multiple
    top, left = down // 2, across // 2
    return F.pad(images, (left, across - left, top, down - top)), (top, left)
