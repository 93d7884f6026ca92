"""TCL's released checkpoint layout: names, sizes read from the tensors, what is required and what is refused."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from core.backbones import openclip
from core.backbones.base import Preprocess
from core.backbones.clip_loading import state_dict_of_openai_clip, tokenizer
from core.backbones.heads import check_head
from core.backbones.layers import Block
from core.backbones.tcl import IMAGENET_MEAN, IMAGENET_STD, LOGIT_SCALE, Masker, TCLBackbone
from core.backbones.weights import OFFLINE_HINT, OPENAI_MODEL, WEIGHTS, check_tensors, existing_file, read_checkpoint
from core.errors import TTDError

HEAD_WIDTH = 64  # CLIP's attention heads are always 64 wide
BLOCK_PARTS = [f"{part}.{kind}" for part in ("attn.out_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2")
               for kind in ("weight", "bias")] + ["attn.in_proj_weight", "attn.in_proj_bias"]
SINGLE = {"token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection",
          "visual.class_embedding", "visual.positional_embedding", "visual.conv1.weight", "visual.ln_pre.weight",
          "visual.ln_pre.bias", "visual.ln_post.weight", "visual.ln_post.bias", "visual.proj"}
MASKER = "masker.image_encoder."
TAIL = MASKER + "backbone.transformer.resblocks."
NET = MASKER + "decoder.decoder.net."
IMAGE_PROJ = MASKER + "decoder.image_proj."
LOSSES = {"tcli_loss.logit_scale", "tclf_loss.logit_scale"}
# TCL's prefixes of the frozen towers -> OpenAI's
FROZEN = {"clip_text_encoder.": "", "clip_image_encoder.clip_visual.": "visual.",
          "clip_image_encoder.clip_proj.ln.": "visual.ln_post.", "clip_image_encoder.clip_proj.proj": "visual.proj"}


def load_tcl(weights: str | Path | None, head: str | None) -> TCLBackbone:
    """TCL from `weights` (default weights/tcl.pth: a dict with `model`; a flat state dict serves too)."""
    check_head(head or "maskclip", ("maskclip",), "TCL, whose masker was trained on it")
    path = Path(weights).expanduser() if weights else WEIGHTS / "tcl.pth"
    if not weights and not path.is_file():
        raise TTDError(f"TCL's weights tcl.pth are missing: looked for {path}. Get tcl.pth from the v1.0.0 release of "
                       f"github.com/kakaobrain/tcl and put it there, or pass --weights, {OFFLINE_HINT}")
    content = read_checkpoint(existing_file(path))
    return build_tcl(content.get("model", content), path)


def build_tcl(state: dict[str, Tensor], path: str | Path) -> TCLBackbone:
    """The backbone from a state dict in TCL's names; absent `clip_*` keys come from OpenAI's ViT-B/16."""
    check_tensors(state, path)
    state = {key: value.to(torch.float32) for key, value in state.items() if not key.startswith("pamr.")}
    clip = {to_openai(key): value for key, value in state.items() if key.startswith("clip_")}
    own = {key: value for key, value in state.items() if not key.startswith("clip_") and key not in LOSSES}
    check_keys(own, clip, path)
    model = _frozen_clip(clip, path)
    visual, text = openclip.vision_tower(model, "TCL"), openclip.text_tower(model, "TCL")
    masker = _masker(own, path)
    _check_fit(masker, visual, path)
    side = round((visual.positional_embedding.shape[0] - 1) ** 0.5) * visual.patch
    return TCLBackbone(visual, text, masker, tokenizer(OPENAI_MODEL), Preprocess(IMAGENET_MEAN, IMAGENET_STD, side),
                       torch.tensor(LOGIT_SCALE).log())


def to_openai(key: str) -> str:
    """TCL's name of a frozen tensor -> OpenAI's name; names of no known prefix stay as they are."""
    for prefix, openai in FROZEN.items():
        if key.startswith(prefix):
            return openai + key.removeprefix(prefix)
    return key


def check_keys(own: dict[str, Tensor], clip: dict[str, Tensor], path: str | Path) -> None:
    """One TTDError listing every missing and every unknown key of the masker and, of the frozen towers, the unknown."""
    tail, stages = _indices(own, TAIL), _indices(own, NET)
    wanted = {f"{TAIL}{i}.{part}" for i in tail or [11] for part in BLOCK_PARTS}
    wanted |= {f"{NET}{i}.{conv}.{part}" for i in stages or [0, 1] for conv in ("conv", "conv2")
               for part in ("norm.weight", "norm.bias", "conv.weight", "conv.bias", "gate.gate")}
    wanted |= {IMAGE_PROJ + part for part in ("ln.weight", "ln.bias", "proj")}
    wanted |= {"masker.sim2mask.w", "masker.sim2mask.b"}
    missing = sorted(wanted - set(own))
    unknown = sorted(set(own) - wanted) + sorted(k for k in clip if not _known_clip_key(k))
    if missing or unknown:
        raise TTDError(f"{path} is not in TCL's layout: missing keys: {', '.join(missing) or 'none'}; unknown keys: "
                       f"{', '.join(unknown) or 'none'}")


def _known_clip_key(key: str) -> bool:
    block = re.fullmatch(r"(?:visual\.)?transformer\.resblocks\.\d+\.(.+)", key)
    return block[1] in BLOCK_PARTS if block else key in SINGLE


def _indices(state: dict[str, Tensor], prefix: str) -> list[int]:
    return sorted({int(match[1]) for key in state if (match := re.match(re.escape(prefix) + r"(\d+)\.", key))})


def _frozen_clip(clip: dict[str, Tensor], path: str | Path) -> nn.Module:
    needed = _clip_keys(clip)
    if set(clip) != needed:  # tcl.pth as released holds the masker alone
        base = state_dict_of_openai_clip()
        wrong = [key for key, value in clip.items() if key in base and base[key].shape != value.shape]
        if wrong:
            raise TTDError(f"{path} holds only some of the frozen CLIP, and of other sizes than OpenAI's ViT-B/16, so "
                           f"the rest cannot be filled in: {', '.join(wrong[:5])}")
        clip = {**base, **clip}
    visual_width, patch = clip["visual.conv1.weight"].shape[0], clip["visual.conv1.weight"].shape[-1]
    grid = round((clip["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    vocabulary, text_width = clip["token_embedding.weight"].shape
    return openclip.build_openai_clip(
        clip, clip["visual.proj"].shape[1],
        {"image_size": grid * patch, "layers": len(_indices(clip, "visual.transformer.resblocks.")),
         "width": visual_width, "head_width": HEAD_WIDTH, "patch_size": patch},
        {"context_length": clip["positional_embedding"].shape[0], "vocab_size": vocabulary, "width": text_width,
         "heads": text_width // HEAD_WIDTH, "layers": len(_indices(clip, "transformer.resblocks."))})


def _clip_keys(clip: dict[str, Tensor]) -> set[str]:
    """The names that a complete frozen CLIP with the layers seen in `clip` has."""
    keys = {f"{prefix}{i}.{part}" for prefix in ("transformer.resblocks.", "visual.transformer.resblocks.")
            for i in range(max(_indices(clip, prefix) or [11]) + 1) for part in BLOCK_PARTS}
    return keys | SINGLE


def _masker(own: dict[str, Tensor], path: str | Path) -> Masker:
    width, dim = own[IMAGE_PROJ + "proj"].shape
    stages = _indices(own, NET)
    kernel = own[f"{NET}{stages[0]}.conv.conv.weight"].shape[-1]
    blocks = [_tail_block(own, i, width) for i in _indices(own, TAIL)]
    masker = Masker(blocks, len(stages), width, dim, kernel)
    state = {f"stages.{key.removeprefix(NET).replace('gate.gate', 'gate')}": value
             for key, value in own.items() if key.startswith(NET)}
    state |= {key.removeprefix(IMAGE_PROJ): value for key, value in own.items() if key.startswith(IMAGE_PROJ)}
    state |= {"w": own["masker.sim2mask.w"], "b": own["masker.sim2mask.b"]}
    try:
        masker.load_state_dict({**{f"blocks.{k}": v for k, v in masker.blocks.state_dict().items()}, **state})
    except RuntimeError as error:
        raise TTDError(f"{path}: the masker's tensors do not fit each other: {' '.join(str(error).split())}") from None
    return masker


def _tail_block(own: dict[str, Tensor], index: int, width: int) -> Block:
    part = {key: own[f"{TAIL}{index}.{key}"] for key in BLOCK_PARTS}
    hidden = part["mlp.c_fc.weight"].shape[0]
    mlp = openclip.quick_gelu_mlp(width, hidden)
    attn = openclip.attention({k.removeprefix("attn."): v for k, v in part.items() if k.startswith("attn.")},
                              width // HEAD_WIDTH)
    block = Block(nn.LayerNorm(width), attn, nn.LayerNorm(width), mlp)
    block.load_state_dict({k: v for k, v in part.items() if not k.startswith("attn.")}, strict=False)
    return block


def _check_fit(masker: Masker, visual: nn.Module, path: str | Path) -> None:
    width, dim = masker.proj.shape
    if (width, dim) != tuple(visual.readout.proj.shape) or len(masker.blocks) > len(visual.blocks):
        raise TTDError(f"{path}: the masker ({width} wide, {dim}-d, {len(masker.blocks)} blocks) does not fit its CLIP "
                       f"({'x'.join(map(str, visual.readout.proj.shape))}, {len(visual.blocks)} blocks)")
