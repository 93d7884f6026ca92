"""CLIP-VG's model: two frozen CLIP towers, one encoder over both, a box for the REG token.

    model = GroundingModel(load_backbone("local-dir:weights/tiny-cls"), config)
    boxes = model(images, ignored, tokens)        # [B, 4], cxcywh in [0, 1]

The sequence is [REG] [text tokens] [CLS] [patches], L = 1 + context + 1 + P. Towers without a class
token (ours; CLIP-VG has none such) leave it out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..errors import TTDError
from .config import ModelConfig, default_blocks
from .encoder import BoxHead, VisionLanguageTransformer, sine_table

TABLE = "clip.visual.positional_embedding"  # its name in CLIP-VG's checkpoints
PADDING = 0  # id of text tokens that are not seen, as published
UNUSED = ("visu_proj.weight", "visu_proj.bias")
FROZEN = ("backbone.", "visual_map.", "text_map.")
UNUSED_WIDTH = 512  # its input in every published model, ViT-L/14's too
Autocast = Callable[[], AbstractContextManager[Any]]


class GroundingModel(nn.Module):
    """Boxes for phrases. The backbone is frozen, but for its image position table (see below).

    train_visual_pos: whether the table takes part in training. CLIP-VG's code trains it, its
    figure says the towers are frozen; where it does not, the towers need no gradient at all.
    `visu_proj` is part of the published layout and used by nothing.
    """

    def __init__(self, backbone: Backbone, config: ModelConfig, train_visual_pos: bool = True):
        """TTDError for blocks and sizes that do not fit the towers."""
        super().__init__()
        check_towers(backbone, config)
        self.backbone, self.config = backbone.requires_grad_(False), config
        self.train_visual_pos = train_visual_pos
        table = backbone.visual.positional_embedding
        table.requires_grad_(train_visual_pos)
        width, embedding = table.shape[1], embedding_size(backbone)
        tokens = sequence_length(config, backbone)
        self.visu_proj = nn.Linear(UNUSED_WIDTH, config.hidden)
        self.text_proj = nn.Linear(config.whiten or embedding, config.hidden)
        levels = width * len(config.blocks)
        self.ml_visu_proj = nn.Linear(config.whiten or levels, config.hidden)
        self.reg_token = nn.Embedding(1, config.hidden)
        self.vl_pos_embed = nn.Embedding(tokens, config.hidden)
        self.vl_transformer = VisionLanguageTransformer(config)
        self.bbox_embed = BoxHead(config.hidden)
        if config.whiten:
            self.visual_map = nn.Linear(levels, config.whiten).requires_grad_(False)
            self.text_map = nn.Linear(embedding, config.whiten).requires_grad_(False)

    def train(self, mode: bool = True) -> GroundingModel:
        """The towers stay in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def set_sines(self) -> None:
        """Let the position table's rows of the patches begin as sines; they train as before."""
        side = self.config.image_size // self.backbone.patch
        table = self.vl_pos_embed.weight
        table[-side * side :] = sine_table(side, self.config.hidden).to(table)

    def own_state(self) -> dict[str, Tensor]:
        """Everything but the frozen towers, by the published names, such as `reg_token.weight`.

        Linears are [out, in], position tables [L, D]; detached, not copied.
        """
        own = {n: p.detach() for n, p in self.named_parameters() if not n.startswith("backbone.")}
        return {**own, TABLE: self.backbone.visual.positional_embedding.detach()}

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What trains, by the published names; `visu_proj` is among them and gets no gradient."""
        own = {n: p for n, p in self.named_parameters() if not n.startswith(FROZEN)}
        if self.train_visual_pos:
            own[TABLE] = self.backbone.visual.positional_embedding
        return own

    def encode_images(self, images: Tensor, autocast: Autocast = nullcontext) -> Tensor:
        """Images on their canvas -> visual tokens, CLS first.

        Args: images [B, 3, S, S] normalized; autocast: entered around the tower alone.
        Returns: float32 [B, 1 + P, D]; [B, P, D] without a class token.
        """
        return self.project(self.image_states(images, autocast))

    def project(self, states: Tensor) -> Tensor:
        """Block outputs [B, 1 + P, blocks * width] of any type -> float32 [B, 1 + P, D]."""
        states = states.float()
        out: Tensor = self.ml_visu_proj(self.visual_map(states) if self.config.whiten else states)
        return out

    def image_states(self, images: Tensor, autocast: Autocast = nullcontext) -> Tensor:
        """The outputs of the chosen blocks side by side: [B, 1 + P, blocks * width].

        Args: as in `encode_images`, whose projection comes next.
        """
        visual, size = self.backbone.visual, self.config.image_size
        if tuple(images.shape[-2:]) != (size, size):
            raise TTDError(f"images of {tuple(images.shape)}: must be [B, 3, {size}, {size}]")
        grad = torch.is_grad_enabled() and self.train_visual_pos
        with torch.set_grad_enabled(grad), autocast():
            states = visual.hidden_states(images.to(self.backbone.dtype), self.config.blocks)
        return torch.cat(states, dim=-1)

    def encode_texts(self, tokens: Tensor, autocast: Autocast = nullcontext) -> Tensor:
        """Token ids [B, n], n <= context -> text tokens, float32 [B, n, D]."""
        states = self.text_states(tokens, autocast).float()
        out: Tensor = self.text_proj(self.text_map(states) if self.config.whiten else states)
        return out

    def text_states(self, tokens: Tensor, autocast: Autocast = nullcontext) -> Tensor:
        """Token ids [B, n] -> what the frozen text tower makes of each, projected: [B, n, E]."""
        text = self.backbone.text
        with torch.no_grad(), autocast():
            out: Tensor = text.projection(text.token_states(tokens))
        return out

    def fuse(
        self, visual: Tensor, ignored: Tensor, text: Tensor, tokens: Tensor, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The encoder and the head.

        Args:
            visual: of `encode_images`.
            ignored: bool [B, P], patches that lie on the padding.
            text: [B, n, D], of `encode_texts`.
            tokens: ids [B, n]; those of id 0 are not seen.
            weights: also give the attention of REG.
        Returns: boxes cxcywh [B, 4] in (0, 1) relative to the canvas; with `weights` the last
            layer's attention of REG to the patches [B, P], mean over heads, else None.
        """
        size, count = len(visual), text.shape[1]
        reg = self.reg_token.weight.expand(size, 1, -1)
        prefix = visual.shape[1] - ignored.shape[1]
        seen, first = ignored.new_zeros(size, 1), ignored.new_zeros(size, prefix)
        table, behind = self.vl_pos_embed.weight, 1 + self.config.context
        positions = torch.cat([table[: 1 + count], table[behind:]])
        mask = torch.cat([seen, tokens == PADDING, first, ignored], dim=1)
        tokens_in = torch.cat([reg, text, visual], dim=1)
        if self.config.input_positions:
            tokens_in = tokens_in + positions
        out, attention = self.vl_transformer(tokens_in, positions, mask, weights)
        if attention is not None:
            attention = attention[:, 1 + count + prefix :]
        return self.bbox_embed(out), attention

    def forward(
        self,
        images: Tensor,
        ignored: Tensor,
        tokens: Tensor,
        autocast: Autocast = nullcontext,
        states: Tensor | None = None,
    ) -> Tensor:
        """Boxes of one phrase for each image: the first of `attend`, whose arguments it takes."""
        return self.attend(images, ignored, tokens, autocast, states, weights=False)[0]

    def attend(
        self,
        images: Tensor,
        ignored: Tensor,
        tokens: Tensor,
        autocast: Autocast = nullcontext,
        states: Tensor | None = None,
        weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Boxes of one phrase for each image, and where REG looked.

        Args: images [B, 3, S, S] normalized; ignored: bool [B, S, S], pixels of the padding;
            tokens: ids [B, context]; autocast: entered around the towers alone; states: what
            `image_states` would give, where it is known; weights: whether attention is asked for.
        Returns: of `fuse`: boxes cxcywh [B, 4] in (0, 1) relative to the canvas; attention [B, P].
        """
        tokens = self.cut(tokens)
        known = self.image_states(images, autocast) if states is None else states
        visual, text = self.project(known), self.encode_texts(tokens, autocast)
        patches = patch_mask(ignored, self.backbone.patch)
        return self.fuse(visual, patches, text, tokens, weights)

    def cut(self, tokens: Tensor) -> Tensor:
        """Token ids [B, context] without the columns at the end that are padding in all rows.

        Padding is seen by no other token: exact, and the shorter the faster.
        """
        if not self.backbone.text.causal or not len(tokens):
            return tokens
        used = (tokens != PADDING).any(0).nonzero()
        return tokens[:, : int(used.max()) + 1] if len(used) else tokens[:, :1]


def patch_mask(ignored: Tensor, patch: int) -> Tensor:
    """Padding per pixel -> padding per patch, True where ignored.

    The mask is resized bilinearly without antialiasing and rounded, half to even: of an even patch
    the four central pixels count, and three of them must be padding.

    Args: bool [B, S, S]. Returns: bool [B, P], row-major.
    """
    grid = [side // patch for side in ignored.shape[-2:]]
    small = F.interpolate(
        ignored[:, None].float(), size=grid, mode="bilinear", align_corners=False, antialias=False
    )
    return small.round().bool().flatten(1)


def sequence_length(config: ModelConfig, backbone: Backbone) -> int:
    """REG, text, CLS and patches: 275 for ViT-B/16 at 224."""
    patches = (config.image_size // backbone.patch) ** 2
    return 1 + config.context + backbone.visual.prefix + patches


def embedding_size(backbone: Backbone) -> int:
    """D of CLIP's embedding space, as the text tower projects to it."""
    weight = getattr(backbone.text.projection, "weight", None)
    if weight is None:
        return backbone.text.positional_embedding.shape[1]
    is_linear = isinstance(backbone.text.projection, nn.Linear)
    return int(weight.shape[0] if is_linear else weight.shape[1])


def model_config(backbone: Backbone, **changes: Any) -> ModelConfig:
    """CLIP-VG's settings for a backbone: D of its embedding space, its own image size."""
    settings: dict[str, Any] = {
        "blocks": default_blocks(len(backbone.visual.blocks)),
        "hidden": embedding_size(backbone),
        "image_size": backbone.image_size,
        "context": backbone.text.positional_embedding.shape[0],
    }
    return ModelConfig(**{**settings, **changes})


def check_towers(backbone: Backbone, config: ModelConfig) -> None:
    """TTDError unless the settings fit the backbone."""
    depth, table = len(backbone.visual.blocks), backbone.text.positional_embedding.shape[0]
    if config.blocks[-1] >= depth:
        raise TTDError(f"blocks {list(config.blocks)}: the image tower has {depth}, from 0")
    if config.image_size % backbone.patch:
        raise TTDError(f"image_size {config.image_size}: must be a multiple of {backbone.patch}")
    if config.whiten > embedding_size(backbone):
        raise TTDError(
            f"whiten {config.whiten}: at most the {embedding_size(backbone)} of the text"
        )
    last = backbone.tokenize(["a"])[0, -1]
    if not last.is_meta and int(last) != PADDING:  # on meta a model is only counted
        raise TTDError(
            f"{backbone.arch}: its texts are padded with id {int(last)}, grounding takes {PADDING} "
            "for padding; not supported"
        )
    if config.context > table:
        raise TTDError(f"context {config.context}: the text tower has {table} positions")
