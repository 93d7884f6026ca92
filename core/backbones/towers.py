"""The two towers of CLIP as one image and one text module, whatever library they come from."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TTDError
from .heads import HEADS
from .layers import Block, resize_positions


class TokenReadout(nn.Module):
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


class MapReadout(nn.Module):
    """Attention ("map") pooling of timm's SigLIP towers.

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
        """All tokens [B, L, C] -> [B, D]; there is no class token, `prefix` is 0."""
        out: Tensor = self.after(self.attn_pool(self.norm(x)))
        return out


class VisionTower(nn.Module):
    """A ViT: the pooled image feature and, through a dense head, one per patch. Any grid size."""

    def __init__(
        self,
        conv: nn.Conv2d,
        class_embedding: nn.Parameter | None,
        positional_embedding: nn.Parameter,
        ln_pre: nn.Module,
        blocks: list[Block],
        readout: TokenReadout | MapReadout,
    ):
        """A tower from its parts.

        Args:
            conv: patch embedding, kernel = stride = patch.
            class_embedding: [C]; None: the tower has no class token.
            positional_embedding: [prefix + g*g, C], of a square grid.
            ln_pre: before the first block; identity where there is none.
            blocks: at least one.
            readout: after the last block.
        """
        super().__init__()
        self.conv = conv
        self.class_embedding, self.positional_embedding = class_embedding, positional_embedding
        self.ln_pre, self.blocks, self.readout = ln_pre, nn.ModuleList(blocks), readout
        self.patch = conv.kernel_size[0]
        self.prefix = 0 if class_embedding is None else 1

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The input of the first block.

        Args: images [B, 3, H, W], H and W multiples of the patch (`pad_to_multiple`).
        Returns: tokens [B, prefix+h*w, C], class token first, patches row-major; and (h, w).
        Errors: TTDError for other sizes, whose last rows and columns the convolution would drop.
        """
        if images.shape[-2] % self.patch or images.shape[-1] % self.patch:
            raise TTDError(
                f"images of {images.shape[-2]} x {images.shape[-1]} pixels do not divide into "
                f"patches of {self.patch}: pad them (Backbone.pad)"
            )
        x = self.conv(images)  # [B, C, h, w]
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)  # [B, h*w, C]
        if self.class_embedding is not None:
            first = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
            x = torch.cat([first, x], dim=1)
        positions = resize_positions(self.positional_embedding, grid, self.prefix)
        return self.ln_pre(x + positions), grid

    def before_block(self, images: Tensor, index: int) -> tuple[Tensor, tuple[int, int]]:
        """[B, 3, H, W] -> tokens [B, prefix+h*w, C] that enter block `index`, and (h, w)."""
        x, grid = self.embed(images)
        for block in self.blocks[:index]:
            x = block(x)
        return x, grid

    def hidden_states(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Tokens after the named blocks, as the residual stream has them, in one pass.

        No final norm and no projection is applied; blocks behind the last named one are not run.
        CLIP-VG (TMM 2023) concatenates those of four blocks.

        Args:
            images: normalized [B, 3, H, W], H and W multiples of the patch.
            blocks: indices of transformer blocks from 0; negative ones count from the end, as in
                lists.

        Returns: for each entry of `blocks`, in that order, [B, prefix+h*w, C]: the class token
            first where there is one, then the patches row-major.
        Errors: TTDError for a block that the tower does not have.
        """
        wanted = [self._block_index(index) for index in blocks]
        x, _ = self.embed(images)
        states: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks[: max(wanted, default=-1) + 1]):
            x = block(x)
            if index in wanted:
                states[index] = x
        return [states[index] for index in wanted]

    def _block_index(self, index: int) -> int:
        count = len(self.blocks)
        if not -count <= index < count:
            raise TTDError(
                f"there is no block {index} in an image tower of {count} blocks: choose from "
                f"{-count} to {count - 1}"
            )
        return index % count

    def last_block(self, x: Tensor, grid: tuple[int, int], head: str) -> Tensor:
        """The last block with a dense head, before the readout.

        Args: x [B, prefix+h*w, C]; grid (h, w); head: a name of `HEADS`.
        Returns: patch tokens [B, h*w, C].
        """
        last = cast(Block, self.blocks[-1])
        return HEADS[head](last, x, grid, self.prefix)[:, self.prefix :]

    def dense(self, images: Tensor, head: str) -> Tensor:
        """[B, 3, H, W] -> [B, D, h, w], not normalized; H and W multiples of the patch."""
        x, grid = self.before_block(images, len(self.blocks) - 1)
        return to_map(self.readout.dense(self.last_block(x, grid, head)), grid)

    def pooled(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, D], not normalized; H and W multiples of the patch."""
        x, _ = self.before_block(images, len(self.blocks))
        return self.readout.pooled(x, self.prefix)


class TextTower(nn.Module):
    """CLIP's text transformer; batches are cut to their longest prompt where that is exact."""

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
        """A tower from its parts.

        Args:
            token_embedding: [V, C].
            positional_embedding: [L, C], L the model's context.
            blocks: transformer blocks.
            ln_final: norm over the last dimension.
            projection: [..., C] -> [..., D].
            pool: which token is the embedding: "first", "last", "argmax" (highest id) or "eos".
            causal: a token sees only itself and those before it.
            eos_id: for pool "eos", the id whose first occurrence is read.
            pad_id: tokens of this id are seen by none; None: every token is seen.
        """
        super().__init__()
        self.token_embedding, self.positional_embedding = token_embedding, positional_embedding
        self.blocks, self.ln_final, self.projection = nn.ModuleList(blocks), ln_final, projection
        self.pool, self.causal, self.pad_id = pool, causal, pad_id
        self.eos_id = -1 if eos_id is None else eos_id

    def end_positions(self, tokens: Tensor) -> Tensor:
        """Token ids [N, L] -> index [N] of the token whose output is the embedding."""
        if self.pool == "first":
            return tokens.new_zeros(tokens.shape[0])
        if self.pool == "last":
            return tokens.new_full((tokens.shape[0],), tokens.shape[1] - 1)
        if self.pool == "argmax":
            return tokens.argmax(-1)
        return tokens.eq(self.eos_id).int().argmax(-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [N, L] -> [N, D], not normalized. TTDError for ids outside the vocabulary."""
        self._check(tokens)
        ends = self.end_positions(tokens)
        if self.causal and self.pool in ("argmax", "eos") and tokens.numel():
            # Later tokens are invisible to the end token of a causal tower: cutting them is exact
            # (1e-6).
            tokens = tokens[:, : int(ends.max()) + 1]
        x = self._transform(tokens)
        # The norm is per token: pooling first is cheaper.
        x = x[torch.arange(len(x), device=x.device), ends]
        out: Tensor = self.projection(self.ln_final(x))
        return out

    def token_states(self, tokens: Tensor) -> Tensor:
        """The state of every token after the final norm, before pooling and projection.

        `projection` maps the states to the embedding space [N, L, D]: CLIP-VG (TMM 2023) takes
        those; at `end_positions` they are `forward`'s embeddings. No token is cut off, padding
        included.

        Args: token ids [N, L], L at most the model's context.
        Returns: [N, L, C].
        Errors: TTDError for ids outside the vocabulary.
        """
        self._check(tokens)
        states: Tensor = self.ln_final(self._transform(tokens))
        return states

    def _transform(self, tokens: Tensor) -> Tensor:
        """Token ids [N, L] -> output of the last block [N, L, C]."""
        mask = None if self.pad_id is None else (tokens != self.pad_id)[:, None, None, :]
        x: Tensor = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, mask, causal=self.causal)
        return x

    def _check(self, tokens: Tensor) -> None:
        if not tokens.numel():
            return
        vocabulary, highest = self.token_embedding.num_embeddings, int(tokens.max())
        if int(tokens.min()) < 0 or highest >= vocabulary:
            raise TTDError(
                f"token ids go up to {highest} but this model's vocabulary has {vocabulary} "
                "entries: its weights and tokenizer do not belong together"
            )


class MatrixProjection(nn.Module):
    """`x @ weight`: CLIP stores its projections transposed to `nn.Linear`."""

    def __init__(self, weight: nn.Parameter):
        """weight: [C, D]."""
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., D]."""
        return x @ self.weight


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens [B, h*w, C], row-major -> [B, C, h, w]; grid (h, w)."""
    batch, _, width = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, width, *grid)


def pad_to_multiple(images: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Zero-pad [B, 3, H, W] centred so that H and W become multiples.

    The smaller half goes to the top and the left. Zeros are the mean colour, since images are
    normalized.

    Returns: padded images [B, 3, H', W'], and (top, left). Source: TCL (CVPR 2023).
    """
    height, width = images.shape[-2:]
    down, across = -height % multiple, -width % multiple
    top, left = down // 2, across // 2
    return F.pad(images, (left, across - left, top, down - top)), (top, left)
