"""The names and shapes of TCL's released checkpoint, as one table that follows from a handful of sizes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import TTDError

TEXT = "clip_text_encoder."
VISUAL = "clip_image_encoder.clip_visual."
PROJ = "clip_image_encoder.clip_proj."
BLOCKS = "transformer.resblocks."
TAIL = "masker.image_encoder.backbone.transformer.resblocks."
NET = "masker.image_encoder.decoder.decoder.net."
IMAGE_PROJ = "masker.image_encoder.decoder.image_proj."
SIM2MASK = "masker.sim2mask."
LOSSES = {
    "tcli_loss.logit_scale",
    "tclf_loss.logit_scale",
}  # TCL's own temperatures: training's, not needed here
# TCL's prefixes of the frozen towers and OpenAI's, the longer ones first
OPENAI = {
    VISUAL: "visual.",
    PROJ + "ln.": "visual.ln_post.",
    PROJ + "proj": "visual.proj",
    TEXT: "",
}

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """What a checkpoint's tensors say of its model; widths in channels, `positions` includes the class token."""

    width: int
    hidden: int
    layers: int
    patch: int
    positions: int
    dim: int
    text_width: int
    text_hidden: int
    text_layers: int
    context: int
    vocabulary: int
    tail: tuple[int, ...]  # indices of the masker's copied blocks
    stages: tuple[int, ...]  # indices of the decoder's stages


def to_openai(key: str) -> str:
    """TCL's name of a frozen tensor -> OpenAI's name."""
    for prefix, openai in OPENAI.items():
        if key.startswith(prefix):
            return openai + key.removeprefix(prefix)
    return key


def from_openai(key: str) -> str:
    """OpenAI's name of a CLIP tensor -> TCL's name."""
    for part, prefix in (
        ("visual.ln_post.", PROJ + "ln."),
        ("visual.proj", PROJ + "proj"),
        ("visual.", VISUAL),
    ):
        if key.startswith(part):
            return prefix + key.removeprefix(part)
    return TEXT + key


def sizes_of(state: dict[str, Tensor], path: str | Path) -> Sizes:
    """Read every size from the tensors of a complete checkpoint. TTDError when one that sizes are read from is odd."""
    shape = {key: tuple(value.shape) for key, value in state.items()}
    try:
        width, _, _, patch = shape[VISUAL + "conv1.weight"]
        vocabulary, text_width = shape[TEXT + "token_embedding.weight"]
        return Sizes(
            width=width,
            hidden=shape[f"{VISUAL}{BLOCKS}0.mlp.c_fc.weight"][0],
            layers=_count(state, VISUAL + BLOCKS),
            patch=patch,
            positions=shape[VISUAL + "positional_embedding"][0],
            dim=shape[PROJ + "proj"][1],
            text_width=text_width,
            text_hidden=shape[f"{TEXT}{BLOCKS}0.mlp.c_fc.weight"][0],
            text_layers=_count(state, TEXT + BLOCKS),
            context=shape[TEXT + "positional_embedding"][0],
            vocabulary=vocabulary,
            tail=indices(state, TAIL),
            stages=indices(state, NET),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise TTDError(
            f"{path}: the frozen CLIP's sizes cannot be read from its tensors ({error})"
        ) from None


def layout(s: Sizes) -> Shapes:
    """Every tensor of a complete checkpoint: TCL's name -> shape. The two loss temperatures are left out."""
    return masker_layout(s) | clip_layout(s)


def masker_layout(s: Sizes) -> Shapes:
    """The trained part: copied blocks, decoder, projection, Sim2Mask."""
    table: Shapes = {}
    for i in s.tail:
        table |= _block(f"{TAIL}{i}.", s.width, s.hidden)
    for i in s.stages:
        for conv in ("conv", "conv2"):
            table |= {
                f"{NET}{i}.{conv}.norm.weight": (s.width,),
                f"{NET}{i}.{conv}.norm.bias": (s.width,),
                f"{NET}{i}.{conv}.conv.weight": (s.width, s.width, 3, 3),
                f"{NET}{i}.{conv}.conv.bias": (s.width,),
                f"{NET}{i}.{conv}.gate.gate": (),
            }
    return table | {
        IMAGE_PROJ + "ln.weight": (s.width,),
        IMAGE_PROJ + "ln.bias": (s.width,),
        IMAGE_PROJ + "proj": (s.width, s.dim),
        SIM2MASK + "w": (),
        SIM2MASK + "b": (),
    }


def clip_layout(s: Sizes) -> Shapes:
    """The two frozen towers."""
    table: Shapes = {
        TEXT + "token_embedding.weight": (s.vocabulary, s.text_width),
        TEXT + "positional_embedding": (s.context, s.text_width),
        TEXT + "ln_final.weight": (s.text_width,),
        TEXT + "ln_final.bias": (s.text_width,),
        TEXT + "text_projection": (s.text_width, s.dim),
        VISUAL + "class_embedding": (s.width,),
        VISUAL + "positional_embedding": (s.positions, s.width),
        VISUAL + "conv1.weight": (s.width, 3, s.patch, s.patch),
        VISUAL + "ln_pre.weight": (s.width,),
        VISUAL + "ln_pre.bias": (s.width,),
        PROJ + "ln.weight": (s.width,),
        PROJ + "ln.bias": (s.width,),
        PROJ + "proj": (s.width, s.dim),
    }
    for i in range(s.text_layers):
        table |= _block(f"{TEXT}{BLOCKS}{i}.", s.text_width, s.text_hidden)
    for i in range(s.layers):
        table |= _block(f"{VISUAL}{BLOCKS}{i}.", s.width, s.hidden)
    return table


def _block(prefix: str, width: int, hidden: int) -> Shapes:
    shapes: Shapes = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (hidden, width),
        "mlp.c_fc.bias": (hidden,),
        "mlp.c_proj.weight": (width, hidden),
        "mlp.c_proj.bias": (width,),
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
    }
    return {prefix + name: shape for name, shape in shapes.items()}


def check_names(found: Iterable[str], wanted: Iterable[str], path: str | Path) -> None:
    """One TTDError listing every missing and every unknown name."""
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        raise TTDError(
            f"{path} is not in TCL's layout: missing keys: {', '.join(missing) or 'none'}; unknown keys: "
            f"{', '.join(unknown) or 'none'}"
        )


def check_shapes(state: dict[str, Tensor], wanted: Shapes, path: str | Path) -> None:
    """One TTDError listing the tensors whose shapes do not follow from the model's sizes."""
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {shape}"
        for name, shape in sorted(wanted.items())
        if tuple(state[name].shape) != shape
    ]
    if wrong:
        rest = f"; and {len(wrong) - 20} more" if len(wrong) > 20 else ""
        raise TTDError(f"{path}: tensors that do not fit the others: {'; '.join(wrong[:20])}{rest}")


def indices(state: Iterable[str], prefix: str) -> tuple[int, ...]:
    """The numbers N of names `prefixN.…`, sorted."""
    found = (re.match(re.escape(prefix) + r"(\d+)\.", key) for key in state)
    return tuple(sorted({int(match[1]) for match in found if match}))


def _count(state: Iterable[str], prefix: str) -> int:
    return max(indices(state, prefix), default=-1) + 1
