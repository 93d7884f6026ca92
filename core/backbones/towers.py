"""The two towers of CLIP as one image and one text module, whatever library they come from."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TTDError
from .heads import HEADS
from .layers import USUAL_RULE, Block, PositionRule, Rotation, resize_positions
from .readouts import Readout

Turns = Callable[[tuple[int, int]], Rotation]  # grid (h, w) -> of its tokens, prefix included


class VisionTower(nn.Module):
    """A ViT: the pooled image feature and, through a dense head, one per patch. Any grid size."""

    def __init__(
        self,
        conv: nn.Conv2d,
        class_embedding: nn.Parameter | None,
        positional_embedding: nn.Parameter,
        ln_pre: nn.Module,
        blocks: list[Block],
        readout: Readout,
        *,
        rule: PositionRule = USUAL_RULE,
        turns: Turns | None = None,
    ):
        """A tower from its parts.

        Args:
            conv: patch embedding, kernel = stride = patch.
            class_embedding: the tokens before the patches, [C] or [prefix, C], class token first;
                None: the tower has none.
            positional_embedding: [prefix + g*g, C], of a square grid; rows of zeros for tokens
                without a position.
            ln_pre: before the first block; identity where there is none.
            blocks: at least one.
            readout: after the last block.
            rule: how positions are resized to other grids.
            turns: rotary positions of a grid; None: the tower has none.
        """
        super().__init__()
        self.conv = conv
        self.class_embedding, self.positional_embedding = class_embedding, positional_embedding
        self.ln_pre, self.blocks, self.readout = ln_pre, nn.ModuleList(blocks), readout
        self.patch = conv.kernel_size[0]
        self.prefix = 0 if class_embedding is None else class_embedding.numel() // conv.out_channels
        self._rule, self._turns = rule, turns

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
            first = self.class_embedding.to(x.dtype).expand(x.shape[0], self.prefix, -1)
            x = torch.cat([first, x], dim=1)
        positions = resize_positions(self.positional_embedding, grid, self.prefix, self._rule)
        return self.ln_pre(x + positions), grid

    def rotation(self, x: Tensor, grid: tuple[int, int]) -> Rotation | None:
        """Rotary positions of tokens x [B, prefix+h*w, C] on grid (h, w); None: there are none."""
        if self._turns is None:
            return None
        turn = self._turns(grid)
        return Rotation(turn.cos.to(x.device), turn.sin.to(x.device), turn.half)

    def before_block(self, images: Tensor, index: int) -> tuple[Tensor, tuple[int, int]]:
        """[B, 3, H, W] -> tokens [B, prefix+h*w, C] that enter block `index`, and (h, w)."""
        x, grid = self.embed(images)
        rotation = self.rotation(x, grid)
        for block in self.blocks[:index]:
            x = block(x, rotation=rotation)
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
        x, grid = self.embed(images)
        rotation = self.rotation(x, grid)
        states: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks[: max(wanted, default=-1) + 1]):
            x = block(x, rotation=rotation)
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
        last, rotation = cast(Block, self.blocks[-1]), self.rotation(x, grid)
        return HEADS[head](last, x, grid, self.prefix, rotation)[:, self.prefix :]

    def whole_last_block(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """The last block as it is: x [B, prefix+h*w, C], grid (h, w) -> the same shape."""
        out: Tensor = self.blocks[-1](x, rotation=self.rotation(x, grid))
        return out

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
            pool: which token is the embedding: "first", "last", "argmax" (highest id) or "eos"; or
                "mean" of all that are no padding.
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
        """Token ids [N, L] -> index [N] of the token whose output is the embedding.

        Errors: TTDError for a tower that averages its tokens.
        """
        if self.pool == "mean":
            raise TTDError("this text tower averages its tokens: no single one is the embedding")
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
        if self.pool == "mean":
            return self._mean(tokens)
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

    def _mean(self, tokens: Tensor) -> Tensor:
        """Token ids [N, L] -> mean [N, D] of the tokens that are no padding; zeros without any."""
        real = tokens.ne(-1 if self.pad_id is None else self.pad_id)
        longest = int(real.sum(1).max()) if tokens.numel() else 0
        if self.pad_id is not None and bool(real[:, :longest].sum() == real.sum()):
            # Padding behind the longest text is seen by none: cutting it is exact.
            tokens, real = tokens[:, : max(longest, 1)], real[:, : max(longest, 1)]
        states = self.ln_final(self._transform(tokens)) * real[..., None]
        out: Tensor = self.projection(states.sum(1) / real.sum(1, keepdim=True).clamp(min=1))
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
        mask = None
        if self.pad_id is not None:
            seen = tokens != self.pad_id
            seen = seen | ~seen.any(dim=1, keepdim=True)  # no row without anything to see
            mask = seen[:, None, None, :]
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
