"""TCL's released checkpoint -> backbone: every size is read from the tensors.

Nothing may be missing and nothing unknown.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import TTDError
from ...utils.files import expanded
from ...utils.shipped import own_weights
from .. import openclip
from ..clip_loading import state_dict_of_openai_clip
from ..heads import check_head
from ..hub_files import hub_file, is_hub_name
from ..layers import Block, unpack_attention
from ..tokenizers.openclip import Tokenizer
from ..weights import OFFLINE_HINT, OPENAI_MODEL, check_tensors, existing_file, read_checkpoint
from . import layout as names
from .base import (
    CONTEXT,
    Facts,
    MergesTokenizer,
    base_in_metadata,
    imagenet_preprocess,
    read_facts,
    usual_facts,
)
from .model import TEMPERATURE, Masker, TCLBackbone

HUB_FILE = "tcl.safetensors"  # in a repository of the Hugging Face Hub


def load_tcl(weights: str | Path | None, head: str | None) -> TCLBackbone:
    """TCL on the CPU in float32.

    Args:
        weights: a dict with the tensors under `model`, or a flat state dict, or
            `hf-hub:ORG/NAME[@REVISION]`; default weights/tcl.pth.
        head: None or `maskclip`.

    Errors: TTDError for another head, and for files that are missing or not TCL's.
    """
    check_head(head or "maskclip", ("maskclip",), "TCL, whose masker was trained on it")
    path = tcl_file(weights)
    content = read_checkpoint(path)
    base = content.get("base", base_in_metadata(path))
    return build_tcl(content.get("model", content), path, base)


def tcl_file(weights: str | Path | None) -> Path:
    """The file of TCL's weights, by default weights/tcl.pth. TTDError where there is none."""
    if is_hub_name(weights):
        return hub_file(str(weights), HUB_FILE, "TCL")
    path = expanded(weights) if weights else own_weights() / "tcl.pth"
    if not weights and not path.is_file():
        raise TTDError(
            f"TCL's weights tcl.pth are missing: looked for {path}. Get tcl.pth from the v1.0.0 "
            "release of github.com/kakaobrain/tcl and put it there, or pass --weights, "
            f"{OFFLINE_HINT}"
        )
    return existing_file(path)


def build_tcl(state: dict[str, Tensor], path: str | Path, base: Any = None) -> TCLBackbone:
    """The backbone from a state dict in TCL's names, float32, on the CPU.

    `pamr.*` is dropped; absent `clip_*` tensors come from OpenAI's ViT-B/16. `path` is what
    messages name; base: what tensors do not tell of another CLIP (core/backbones/tcl/base.py).

    Args: state: tensors by name, in the shapes of `tcl_layout.layout`: the decoder's convolutions,
        for instance, are [C, C, 3, 3].
    Errors: TTDError listing all missing and unknown names, or all tensors whose shapes do not fit.
    """
    check_tensors(state, path)
    temperatures = _temperatures(state)
    state = _with_frozen_clip(names.needed_for_inference(state), path)
    sizes = names.sizes_of(state, path)
    names.check_shapes(state, names.layout(sizes), path)
    usual = usual_facts(sizes.width, sizes.text_width)
    facts = read_facts(base, usual, path)
    model = _clip(state, sizes, facts)
    side = round((sizes.positions - 1) ** 0.5) * sizes.patch
    backbone = TCLBackbone(
        openclip.vision_tower(model, "TCL"),
        openclip.text_tower(model, "TCL"),
        _masker(state, sizes, facts),
        _tokenizer(facts, sizes.context),
        imagenet_preprocess(side),
        _mask_mapping(state, path),
        temperatures=temperatures,
    )
    backbone.facts = None if facts == usual else facts
    return backbone


def _tokenizer(facts: Facts, context: int) -> Tokenizer | MergesTokenizer:
    if facts.merges is None and context == CONTEXT:
        return Tokenizer(OPENAI_MODEL)
    return MergesTokenizer(facts.merges, context)


def _temperatures(state: Mapping[str, Tensor]) -> tuple[float, float]:
    """`logit_scale` of the image- and the feature-level loss; where they lack, as at the start."""
    found = [state.get(f"{name}_loss.logit_scale") for name in ("tcli", "tclf")]
    image, feature = (TEMPERATURE if value is None else float(value) for value in found)
    return image, feature


def _with_frozen_clip(state: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """`state` with the frozen towers filled in where it lacks them, its names checked."""
    wanted = names.layout(_assumed_sizes(state))
    lacking = [key for key in wanted if key.startswith("clip_") and key not in state]
    # Before OpenAI's weights are looked for: a wrong file is wrong without them too.
    names.check_names({*state, *lacking}, wanted, path)
    if not lacking:
        return state
    # tcl.pth as released holds the masker alone
    frozen = {names.from_openai(key): value for key, value in state_dict_of_openai_clip().items()}
    filled = {**{key: value for key, value in frozen.items() if key in wanted}, **state}
    names.check_names(filled, wanted, path)
    return filled


def _assumed_sizes(state: Mapping[str, Tensor]) -> names.Sizes:
    """Numbers of blocks and stages as the names in `state` have them, else the released model's.

    Sizes that shapes follow from are left at 0.
    """
    return names.Sizes(
        width=0,
        hidden=0,
        patch=0,
        positions=0,
        dim=0,
        text_width=0,
        text_hidden=0,
        context=0,
        vocabulary=0,
        layers=max(names.indices(state, names.VISUAL + names.BLOCKS), default=11) + 1,
        text_layers=max(names.indices(state, names.TEXT + names.BLOCKS), default=11) + 1,
        tail=names.indices(state, names.TAIL) or (11,),
        stages=names.indices(state, names.NET) or (0, 1),
    )


def _clip(state: Mapping[str, Tensor], s: names.Sizes, facts: Facts) -> nn.Module:
    """The frozen CLIP as open_clip's model."""
    frozen = {
        names.to_openai(key): value for key, value in state.items() if key.startswith("clip_")
    }
    vision: dict[str, Any] = {
        "image_size": round((s.positions - 1) ** 0.5) * s.patch,
        "layers": s.layers,
        "width": s.width,
        "head_width": s.width // facts.heads,
        "patch_size": s.patch,
        "mlp_ratio": s.hidden / s.width,
    }
    text: dict[str, Any] = {
        "context_length": s.context,
        "vocab_size": s.vocabulary,
        "width": s.text_width,
        "heads": facts.text_heads,
        "layers": s.text_layers,
        "mlp_ratio": s.text_hidden / s.text_width,
    }
    return openclip.build_openai_clip(frozen, s.dim, vision, text, facts.quick_gelu)


def _masker(state: Mapping[str, Tensor], s: names.Sizes, facts: Facts) -> Masker:
    blocks = [_tail_block(_below(state, f"{names.TAIL}{i}."), s, facts) for i in s.tail]
    masker = Masker(blocks, len(s.stages), s.width, s.dim)
    own = {f"blocks.{key}": value for key, value in masker.blocks.state_dict().items()}
    for key, value in _below(state, names.NET).items():
        own[f"stages.{key.replace('gate.gate', 'gate')}"] = value
    masker.load_state_dict(own | _below(state, names.IMAGE_PROJ))
    return masker


def _tail_block(state: dict[str, Tensor], s: names.Sizes, facts: Facts) -> Block:
    """A copied block from its twelve tensors in CLIP's names."""
    block = Block(
        nn.LayerNorm(s.width),
        unpack_attention(_below(state, "attn."), facts.heads),
        nn.LayerNorm(s.width),
        openclip.clip_mlp(s.width, s.hidden, facts.quick_gelu),
    )
    own = {f"attn.{key}": value for key, value in block.attn.state_dict().items()}
    own |= {key: value for key, value in state.items() if not key.startswith("attn.")}
    block.load_state_dict(own)
    return block


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, which is cut off."""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _mask_mapping(state: Mapping[str, Tensor], path: str | Path) -> tuple[float, float]:
    """(a, b) with `a (S - b) = w S + b'`, w and b' the learned numbers of the checkpoint."""
    w, offset = float(state[names.SIM2MASK + "w"]), float(state[names.SIM2MASK + "b"])
    if w == 0:
        raise TTDError(
            f"{path}: masker.sim2mask.w is 0, so every mask would be the same: the file is damaged"
        )
    return w, -offset / w
