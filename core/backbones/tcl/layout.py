"""The names and shapes of TCL's released checkpoint: one table that follows from a few sizes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...errors import TTDError

TEXT = "clip_text_encoder."
VISUAL = "clip_image_encoder.clip_visual."
PROJ = "clip_image_encoder.clip_proj."
BLOCKS = "transformer.resblocks."
TAIL = "masker.image_encoder.backbone.transformer.resblocks."
NET = "masker.image_encoder.decoder.decoder.net."
IMAGE_PROJ = "masker.image_encoder.decoder.image_proj."
SIM2MASK = "masker.sim2mask."
# TCL's own temperatures: only its training needs them
LOSSES = {"tcli_loss.logit_scale", "tclf_loss.logit_scale"}
# TCL's prefixes of the frozen towers and OpenAI's, the longer ones first
OPENAI = (
    (PROJ + "ln.", "visual.ln_post."),
    (PROJ + "proj", "visual.proj"),
    (VISUAL, "visual."),
    (TEXT, ""),
)

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """What a checkpoint's tensors say of its model.

    width, hidden, dim (and text_*): channels; patch: pixels; positions: rows of the image tower's
    position table, the class token's included; context, vocabulary: tokens; tail: indices of the
    masker's copied blocks; stages: indices of the decoder's stages.
    """

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
    tail: tuple[int, ...]
    stages: tuple[int, ...]


def to_openai(key: str) -> str:
    """TCL's name of a frozen tensor -> OpenAI's name."""
    for prefix, openai in OPENAI:
        if key.startswith(prefix):
            return openai + key.removeprefix(prefix)
    return key


def from_openai(key: str) -> str:
    """OpenAI's name of a CLIP tensor -> TCL's name."""
    for prefix, openai in OPENAI:
        if key.startswith(openai):
            return prefix + key.removeprefix(openai)
    return key


def needed_for_inference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` in float32, without PAMR's kernels and the losses' temperatures.

    Tensors by their names in the checkpoint; each keeps its shape [...].
    """
    return {
        key: value.float()
        for key, value in state.items()
        if not key.startswith("pamr.") and key not in LOSSES
    }


def sizes_of(state: Mapping[str, Tensor], path: str | Path) -> Sizes:
    """Read every size from the tensors of a complete checkpoint.

    Patch and width, for instance, are those of the first convolution [width, 3, patch, patch].

    Errors: TTDError naming `path` where a tensor that sizes are read from is missing or has another
        number of dimensions.
    """
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
    """Every tensor of a complete checkpoint but the losses' temperatures: TCL's name -> shape."""
    return masker_layout(s) | clip_layout(s)


def masker_layout(s: Sizes) -> Shapes:
    """The trained part: copied blocks, decoder, projection, Sim2Mask; TCL's name -> shape."""
    table: Shapes = {}
    for i in s.tail:
        table |= _block(f"{TAIL}{i}.", s.width, s.hidden)
    for i in s.stages:
        table |= _gated_conv(f"{NET}{i}.conv.", s.width)
        table |= _gated_conv(f"{NET}{i}.conv2.", s.width)
    return table | {
        IMAGE_PROJ + "ln.weight": (s.width,),
        IMAGE_PROJ + "ln.bias": (s.width,),
        IMAGE_PROJ + "proj": (s.width, s.dim),
        SIM2MASK + "w": (),
        SIM2MASK + "b": (),
    }


def clip_layout(s: Sizes) -> Shapes:
    """The two frozen towers: TCL's name -> shape."""
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


def _gated_conv(prefix: str, width: int) -> Shapes:
    return {
        f"{prefix}norm.weight": (width,),
        f"{prefix}norm.bias": (width,),
        f"{prefix}conv.weight": (width, width, 3, 3),
        f"{prefix}conv.bias": (width,),
        f"{prefix}gate.gate": (),
    }


def _block(prefix: str, width: int, hidden: int) -> Shapes:
    return {
        f"{prefix}attn.in_proj_weight": (3 * width, width),
        f"{prefix}attn.in_proj_bias": (3 * width,),
        f"{prefix}attn.out_proj.weight": (width, width),
        f"{prefix}attn.out_proj.bias": (width,),
        f"{prefix}mlp.c_fc.weight": (hidden, width),
        f"{prefix}mlp.c_fc.bias": (hidden,),
        f"{prefix}mlp.c_proj.weight": (width, hidden),
        f"{prefix}mlp.c_proj.bias": (width,),
        f"{prefix}ln_1.weight": (width,),
        f"{prefix}ln_1.bias": (width,),
        f"{prefix}ln_2.weight": (width,),
        f"{prefix}ln_2.bias": (width,),
    }


def check_names(found: Iterable[str], wanted: Iterable[str], path: str | Path) -> None:
    """One TTDError listing every missing and every unknown name."""
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        raise TTDError(
            f"{path} is not in TCL's layout: missing keys: {', '.join(missing) or 'none'}; "
            f"unknown keys: {', '.join(unknown) or 'none'}"
        )


def check_shapes(state: Mapping[str, Tensor], wanted: Shapes, path: str | Path) -> None:
    """Compare the shapes of tensors with those that follow from the model's sizes.

    Args: state: tensors [...] by name. wanted: the shapes of some of these names, as `layout` says.
    Errors: one TTDError listing the tensors that have another shape.
    """
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {shape}"
        for name, shape in sorted(wanted.items())
        if tuple(state[name].shape) != shape
    ]
    if wrong:
        rest = f"; and {len(wrong) - 20} more" * (len(wrong) > 20)
        raise TTDError(f"{path}: tensors that do not fit the others: {'; '.join(wrong[:20])}{rest}")


def indices(state: Iterable[str], prefix: str) -> tuple[int, ...]:
    """The numbers N of names `prefixN.…`, sorted."""
    found = (re.match(re.escape(prefix) + r"(\d+)\.", key) for key in state)
    return tuple(sorted({int(match[1]) for match in found if match}))


def _count(state: Iterable[str], prefix: str) -> int:
    return max(indices(state, prefix), default=-1) + 1
