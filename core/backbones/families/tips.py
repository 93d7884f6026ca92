"""TIPSv2 (google-deepmind/tips, CVPR 2026) from its own files: `tips:/FOLDER`.

    FOLDER/tips_v2_oss_b14_vision.npz      # or l14, so14, g14
    FOLDER/tips_v2_oss_b14_text.npz
    FOLDER/tokenizer.model                 # SentencePiece's

Image and text share a space without a projection on either side. Pixels stay in [0, 1]. The tower
is DINOv2's with two class tokens, of which the second has no position; the first is the image's
embedding. Dense features are the last block with each token's own value (`maskclip`), which is what
the authors' notebook on zero-shot segmentation does.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import TTDError
from ...utils.files import expanded
from ...utils.tensors.npz_files import read_npz
from ..base import Preprocess
from ..clip import CLIPBackbone
from ..layers import PositionRule
from ..readouts import TokenReadout
from ..tokenizers.sentencepiece import SentencePieceTokenizer
from ..towers import TextTower, VisionTower
from ..weights import check_tensors, existing_file, reading
from .blocks import VISION, BlockNames, read_block
from .state import State

PREFIX = "tips:"
MODEL = "a TIPSv2"
TOKENIZER = "tokenizer.model"
SOURCE = "storage.googleapis.com/tips_data (google-deepmind/tips on GitHub lists the files)"
CONTEXT = 64
SCALE = 100.0  # CLIP's; the temperature in the text file belongs to a loss that is not used here
HEADS_OF = {1152: 16}  # attention heads by width; other widths have heads of 64 channels
TEXT = BlockNames(("ln_1", "ln_2"), "attn.in_proj_{}", "attn.out_proj", "mlp", ("c_fc", "c_proj"))


def load_tips(arch: str, weights: str | Path | None) -> tuple[CLIPBackbone, str]:
    """TIPSv2 on the CPU in float32, and its default dense head.

    Args:
        arch: `tips:/FOLDER`. weights: the vision file, where the folder has several or its name
            is another; the text file is beside it (`..._text.npz`).

    Errors: TTDError for files that are missing, damaged or of another model.
    """
    vision_file, text_file = _files(expanded(arch.removeprefix(PREFIX)), weights)
    visual = vision_tower(_read(vision_file), vision_file)
    text = text_tower(_read(text_file), text_file)
    if text.token_embedding.embedding_dim != visual.conv.out_channels:
        raise TTDError(f"{vision_file} and {text_file} are of models of different widths")
    side = round((visual.positional_embedding.shape[0] - visual.prefix) ** 0.5) * visual.patch
    backbone = CLIPBackbone(
        visual,
        text,
        SentencePieceTokenizer(vision_file.parent / TOKENIZER, CONTEXT, SOURCE),
        Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), side),
        logit_scale=SCALE,
    )
    return backbone, visual.readout.default_head


def _files(folder: Path, weights: str | Path | None) -> tuple[Path, Path]:
    """(vision file, text file)."""
    if weights is not None:
        vision = existing_file(weights)
    else:
        found = sorted(folder.glob("*vision.npz")) if folder.is_dir() else []
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise TTDError(
                f"{PREFIX}{folder}: one *_vision.npz of TIPSv2 must be in this folder, found "
                f"{names}: get it from {SOURCE}, or name it with --weights"
            )
        vision = found[0]
    text = vision.with_name(vision.name.replace("vision", "text"))
    if text == vision or not text.is_file():
        raise TTDError(
            f"{vision}: the text tower must be beside it, under the same name with `text` in the "
            f"place of `vision`: get it from {SOURCE}"
        )
    return vision, text


def _read(path: Path) -> dict[str, Tensor]:
    with reading(path):
        state = read_npz(path)
    check_tensors(state, path)
    return state


def vision_tower(tensors: dict[str, Tensor], path: Path) -> VisionTower:
    """The image tower from {name: [...]} in DINOv2's names. TTDError naming what does not fit."""
    state = State(tensors, path, MODEL)
    state.drop("mask_token")
    first = state.take("cls_token", 1, 1, None)[0]  # [1, C]
    width = first.shape[1]
    heads = _heads(width, path)
    second = state.take("register_tokens", 1, 1, width)[0]
    table = state.take("pos_embed", 1, None, width)[0]  # the first class token, then patches
    positions = torch.cat([table[:1], torch.zeros(1, width), table[1:]])
    conv = patch_embedding(state, "patch_embed.proj", width)
    blocks = [
        read_block(state, f"blocks.{index}.", width, heads, names=VISION, eps=1e-6)
        for index in range(state.count("blocks."))
    ]
    readout = TokenReadout(state.norm("norm", width, 1e-6), None, "tok", False)
    readout.heads = ("maskclip", "vanilla")
    state.finish()
    _check_square(len(table) - 1, path)
    return VisionTower(
        conv,
        nn.Parameter(torch.cat([first, second])),
        nn.Parameter(positions),
        nn.Identity(),
        blocks,
        readout,
        rule=PositionRule("bilinear", antialias=True),
    )


def patch_embedding(state: State, name: str, width: int) -> nn.Conv2d:
    """The convolution that makes tokens [C] of square patches [3, P, P]."""
    weight = state.take(f"{name}.weight", width, 3, None, None)
    side = weight.shape[-1]
    conv = nn.Conv2d(3, width, side, stride=side, device="meta")
    conv.weight = nn.Parameter(weight)
    conv.bias = nn.Parameter(state.take(f"{name}.bias", width))
    return conv


def text_tower(tensors: dict[str, Tensor], path: Path) -> TextTower:
    """The text tower from {name: [...]}: ReLU, sinusoidal positions, mean over the real tokens."""
    state = State(tensors, path, MODEL)
    state.drop("temperature")
    words = state.take("token_embedding.weight", None, None)
    vocabulary, width = words.shape
    heads = _heads(width, path)
    prefix = "transformer.resblocks."
    blocks = [
        read_block(state, f"{prefix}{index}.", width, heads, names=TEXT, eps=1e-5, act=nn.ReLU)
        for index in range(state.count(prefix))
    ]
    final = state.norm("ln_final", width, 1e-5)
    state.finish()
    embedding = nn.Embedding(vocabulary, width, device="meta")
    embedding.weight = nn.Parameter(words * math.sqrt(width))
    positions = nn.Parameter(sinusoids(CONTEXT, width))
    return TextTower(
        embedding, positions, blocks, final, nn.Identity(), pool="mean", causal=False, pad_id=0
    )


def sinusoids(length: int, width: int) -> Tensor:
    """[L, C]: sines in the first half of the channels, cosines in the second.

    Time scales run geometrically from 1 to 10,000; an odd last channel is 0.
    """
    count = width // 2
    steps = torch.arange(count, dtype=torch.float32) / max(count - 1, 1)
    times = torch.arange(length, dtype=torch.float32)[:, None] * torch.exp(-math.log(1e4) * steps)
    signal = torch.cat([times.sin(), times.cos()], dim=1)
    return nn.functional.pad(signal, (0, width % 2))


def _heads(width: int, path: Path) -> int:
    heads = HEADS_OF.get(width, width // 64)
    if not heads or width % heads:
        raise TTDError(f"{path}: a tower of {width} channels is no TIPSv2")
    return heads


def _check_square(patches: int, path: Path) -> None:
    if not patches or math.isqrt(patches) ** 2 != patches:
        raise TTDError(f"{path}: pos_embed of {patches} patches is no square grid")
