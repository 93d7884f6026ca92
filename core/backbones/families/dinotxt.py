"""dino.txt (DINOv2's and DINOv3's text alignment) from its own files: `dinotxt:/FOLDER`.

    DINOv2   dinov2_vitl14_reg4_pretrain.pth
             dinov2_vitl14_reg4_dinotxt_tet1280d20h24l_vision_head.pth
             dinov2_vitl14_reg4_dinotxt_tet1280d20h24l_text_encoder.pth
    DINOv3   dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth
             dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth

A text's vector has two halves: the first belongs to the image's class token, the second to the mean
of its patches. Patches are compared with the second half alone, so this half is the text's
embedding here, and the mean of the patches is the image's. The dense features are the patch tokens
of the two blocks that the alignment added behind the frozen tower; nothing in them is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import TTDError
from ...utils.files import expanded
from ..base import Preprocess
from ..clip import CLIPBackbone
from ..layers import Attention, Block, PositionRule, Rotation
from ..readouts import TokenReadout
from ..tokenizers.openclip import Tokenizer
from ..towers import TextTower, VisionTower
from ..weights import OPENAI_MODEL, existing_file, read_weights
from .blocks import VISION, BlockNames, read_block
from .rotary import DinoTurns
from .state import State
from .tips import patch_embedding

PREFIX = "dinotxt:"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CHANNELS = 64  # of an attention head, in every tower
TRAINED_AT = 224  # pixels a side, when text was aligned
TEXT = BlockNames(
    ("attention_norm", "ffn_norm"), "attention.qkv.{}", "attention.proj", "feed_forward"
)


@dataclass(frozen=True)
class Release:
    """Files of a release, as patterns, and what its tower is.

    tower, head, text: patterns; head and text may be one file, whose names then have prefixes.
    registers: what the tokens between class token and patches are called; eps: of the tower's
    norms.
    """

    name: str
    tower: str
    head: str
    text: str
    registers: str
    eps: float


DINOV2 = Release(
    "DINOv2's dino.txt",
    "dinov2_vit*_reg4_pretrain*.pth",
    "dinov2_*dinotxt*vision_head*.pth",
    "dinov2_*dinotxt*text_encoder*.pth",
    "register_tokens",
    1e-6,
)
DINOV3 = Release(
    "DINOv3's dino.txt",
    "dinov3_vit*_pretrain_*.pth",
    "dinov3_*dinotxt_vision_head_and_text_encoder*.pth",
    "dinov3_*dinotxt_vision_head_and_text_encoder*.pth",
    "storage_tokens",
    1e-5,
)
HEAD, WORDS = "visual_model.head.", "text_model."  # prefixes in a file of both


class Unturned(Attention):
    """Attention without rotary positions, in a tower whose other blocks have them."""

    def queries(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """[B, L, C] -> queries [B, heads, L, C/heads]; `rotation` is not used."""
        return super().queries(x)

    def keys(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """[B, L, C] -> keys [B, heads, L, C/heads]; `rotation` is not used."""
        return super().keys(x)


class LastOfTower(Block):
    """The frozen tower's last block and its final norm: what the added blocks start from."""

    def __init__(self, block: Block, norm: nn.Module):
        """block: whose parts are taken over; norm: over the last dimension."""
        super().__init__(block.ln_1, block.attn, block.ln_2, block.mlp, block.ls_1, block.ls_2)
        self.norm = norm

    def add_residuals(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block, then the norm: `x` and `attended` [B, L, C] -> [B, L, C]."""
        out: Tensor = self.norm(super().add_residuals(x, attended))
        return out


class PatchReadout(TokenReadout):
    """The added blocks' final norm; an image is the mean of its patches."""

    heads = ("vanilla",)

    def __init__(self, norm: nn.Module):
        """norm: over the last dimension."""
        super().__init__(norm, None, "avg", norm_after_pool=False)
        self.default_head = "vanilla"


def load_dinotxt(arch: str, weights: str | Path | None) -> tuple[CLIPBackbone, str]:
    """dino.txt on the CPU in float32, and its one dense head.

    Args: arch: `dinotxt:/FOLDER` with the files of one release. weights: the frozen tower's file,
        where its name is another or it lies elsewhere.
    Errors: TTDError for files that are missing, damaged or of another model.
    """
    folder = expanded(arch.removeprefix(PREFIX))
    release = _release(folder)
    head_file, text_file = _one(folder, release.head), _one(folder, release.text)
    tower_file = existing_file(weights) if weights else _one(folder, release.tower)
    head, text = _halves(head_file, text_file)
    visual = vision_tower(
        State(read_weights(tower_file), tower_file, f"{release.name}'s frozen tower"),
        State(head, head_file, f"{release.name}'s vision head"),
        release,
    )
    backbone = CLIPBackbone(
        visual,
        text_tower(State(text, text_file, f"{release.name}'s text tower"), visual),
        Tokenizer(OPENAI_MODEL),
        Preprocess(*IMAGENET, TRAINED_AT),
        logit_scale=100.0,
    )
    return backbone, visual.readout.default_head


def _release(folder: Path) -> Release:
    if not folder.is_dir():
        raise TTDError(f"{PREFIX}{folder}: no such folder; dino.txt's files must be in it")
    found = [release for release in (DINOV2, DINOV3) if any(folder.glob(release.head))]
    if len(found) == 1:
        return found[0]
    wanted = " or ".join(release.head for release in (DINOV2, DINOV3))
    raise TTDError(
        f"{PREFIX}{folder}: the vision head of one release must be here ({wanted}), found "
        f"{'both' if found else 'none'}: GitHub's facebookresearch/dinov2 or dinov3 lists the files"
    )


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise TTDError(
            f"{PREFIX}{folder}: one {pattern} must be in this folder, found {names} "
            "(--weights names the frozen tower's file)"
        )
    return found[0]


def _halves(head_file: Path, text_file: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of the vision head and of the text tower, without prefixes."""
    if head_file != text_file:
        return read_weights(head_file), read_weights(text_file)
    both = read_weights(head_file)
    return _below(both, HEAD), _below(both, WORDS)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def vision_tower(tower: State, head: State, release: Release) -> VisionTower:
    """The frozen tower and the added blocks as one. TTDError naming what does not fit."""
    tower.drop("mask_token")
    first = tower.take("cls_token", 1, 1, None)[0]  # [1, C]
    width = first.shape[1]
    rest = tower.take(release.registers, 1, None, width)[0]
    prefix = torch.cat([first, rest])
    conv = patch_embedding(tower, "patch_embed.proj", width)
    positions, turns = _positions(tower, len(prefix), width)
    heads = width // CHANNELS
    blocks = [
        read_block(tower, f"blocks.{index}.", width, heads, names=VISION, eps=release.eps)
        for index in range(tower.count("blocks."))
    ]
    blocks[-1] = LastOfTower(blocks[-1], tower.norm("norm", width, release.eps))
    tower.finish()
    readout = PatchReadout(head.norm("ln_final", width, 1e-5))
    blocks += _added_blocks(head, width, heads)
    return VisionTower(
        conv,
        nn.Parameter(prefix),
        nn.Parameter(positions),
        nn.Identity(),
        blocks,
        readout,
        rule=PositionRule(antialias=True),
        turns=turns,
    )


def _positions(tower: State, prefix: int, width: int) -> tuple[Tensor, DinoTurns | None]:
    """Learned positions [prefix + g*g, C] (zeros without them), and rotary ones where there are."""
    if not tower.has("pos_embed"):
        periods = tower.take("rope_embed.periods", CHANNELS // 4)
        return torch.zeros(prefix + 1, width), DinoTurns(periods, prefix)
    table = tower.take("pos_embed", 1, None, width)[0]
    return torch.cat([table[:1], torch.zeros(prefix - 1, width), table[1:]]), None


def _added_blocks(head: State, width: int, heads: int) -> list[Block]:
    """The alignment's own blocks; they have no positions."""
    blocks = [
        read_block(
            head, f"block_list.{index}.", width, heads, names=VISION, eps=1e-5, attention=Unturned
        )
        for index in range(head.count("block_list."))
    ]
    head.finish()
    return blocks


def text_tower(state: State, visual: VisionTower) -> TextTower:
    """The text tower, whose embedding is the half of the text's vector that patches are meant by.

    Errors: TTDError naming what does not fit.
    """
    words = state.take("backbone.token_embedding.weight", None, None)
    vocabulary, width = words.shape
    positions = state.take("backbone.positional_embedding", None, width)
    heads = width // CHANNELS
    prefix = "backbone.blocks."
    blocks = [
        read_block(state, f"{prefix}{index}.", width, heads, names=TEXT, eps=1e-5)
        for index in range(state.count(prefix))
    ]
    final = state.norm("backbone.ln_final", width, 1e-5)
    dim = visual.conv.out_channels
    both = state.take("head.linear_projection.weight", 2 * dim, width)
    state.finish()
    embedding = nn.Embedding(vocabulary, width, device="meta")
    embedding.weight = nn.Parameter(words)
    projection = nn.Linear(width, dim, bias=False, device="meta")
    projection.weight = nn.Parameter(both[dim:].clone())
    return TextTower(
        embedding, nn.Parameter(positions), blocks, final, projection, pool="argmax", causal=True
    )
