"""Merged weights: `W + (alpha / r) B A` written into a model's own files, in its own names.

A backbone has plain linears (`visual.blocks.0.attn.q_proj`); files have the names of open_clip,
timm or TCL, where queries, keys and values are one packed matrix. Merging therefore works on the
file's tensors: each delta is added to the matrix, or the third of it, that the linear was made
from.
"""

import io
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import TTDError
from ...utils.finite import check_weights
from .. import FAMILIES
from ..base import Backbone
from ..clip_loading import load_openclip_model, state_dict_of_openai_clip
from ..openclip import OpenCLIP
from ..openclip_config import FOLDER_CONFIG, folder_config
from ..tcl import layout as tcl_layout
from ..tcl.loading import tcl_file
from ..weights import read_checkpoint
from .adapter import adapter_deltas, adapter_layers
from .files import store

PACKED = ("q_proj", "k_proj", "v_proj")  # the thirds of a packed matrix, in this order everywhere
BLOCKS = {
    "text": (
        tcl_layout.TEXT + tcl_layout.BLOCKS,
        "text.transformer.resblocks.",
        "transformer.resblocks.",
    ),
    "visual": (
        tcl_layout.VISUAL + tcl_layout.BLOCKS,
        "visual.transformer.resblocks.",
        "visual.trunk.blocks.",
    ),
    "masker": (tcl_layout.TAIL,),
}
ATTENTION = {
    **dict.fromkeys(PACKED, ("attn.in_proj_weight", "attn.qkv.weight")),
    "out_proj": ("attn.out_proj.weight", "attn.proj.weight"),
}
TOKENIZERS = (
    "bpe.txt.gz",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
FOLDER_WEIGHTS = "open_clip_model.safetensors"

State = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """A model as its file has it.

    state: all tensors by the file's names, float32;
    config: `open_clip_config.json` of a folder for it, None where there can be none;
    why_not: why there can be none;
    folder: where it was loaded from, if that was a folder.
    """

    state: State
    config: dict[str, Any] | None = None
    why_not: str = ""
    folder: Path | None = None


def read_source(arch: str, weights: str | Path | None) -> Source:
    """Every tensor of a model in its file's names. TTDError as `load_backbone`."""
    if arch == "TCL":
        return Source(_tcl_state(tcl_file(weights)), why_not="TCL's weights are one file")
    if arch.startswith(tuple(FAMILIES)):
        raise TTDError(
            f"{arch}: merged weights have no file in this family's form; keep the adapter, --lora"
        )
    model, name = load_openclip_model(arch, weights)
    state = {key: _at_float32(value) for key, value in model.state_dict().items()}
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        config = folder_config(folder)
        return Source(state, config, folder=folder)
    if name.startswith("hf-hub:") or "siglip" in name.lower() or _hub_tokenizer(name):
        return Source(state, why_not=f"the tokenizer of {name} is on the Hugging Face Hub")
    return Source(state, _made_config(model, name))


def merge(backbone: Backbone, source: Source) -> State:
    """The file's tensors with the adapter on `backbone` added; `source` is left alone.

    Args: backbone in float32, loaded from the same weights.
    Errors: TTDError for a module whose weight the file has under no known name, or with other
        values.
    """
    layers, state = adapter_layers(backbone), dict(source.state)
    for module, delta in adapter_deltas(backbone).items():
        key, third = _place(module, state)
        if state[key] is source.state[key]:
            state[key] = state[key].clone()
        rows = state[key]
        if third is not None:
            rows = rows.chunk(3)[third]  # a view: adding to it adds to the whole
        if not torch.equal(rows, layers[module].base_layer.weight.detach().cpu().float()):
            raise TTDError(f"cannot merge {module}: {key} in the file is not its weight")
        rows += delta
    return state


def write_file(state: Mapping[str, Tensor], path: Path) -> None:
    """Write merged tensors as one file for `--weights`.

    Its ending decides: safetensors, or the form of TCL's release (`.pt`, `.pth`).

    Args: state: every tensor of the model by the file's names, each [...] in the file's shape.
    Errors: TTDError: it cannot be written.
    """
    from safetensors.torch import save

    check_weights(state, path)
    # safetensors refuses shared memory
    tensors = {key: value.contiguous().clone() for key, value in state.items()}
    if path.suffix == ".safetensors":
        store(path, save(tensors))
        return
    buffer = io.BytesIO()
    is_tcl = any(key.startswith("masker.") for key in tensors)
    torch.save({"model": tensors} if is_tcl else tensors, buffer)
    store(path, buffer.getvalue())


def write_folder(state: Mapping[str, Tensor], folder: Path, source: Source, head: str) -> None:
    """Write merged tensors as a folder for `--arch local-dir:`: config, weights, tokenizer files.

    Args:
        state: every tensor of the model by the file's names, each [...] in the file's shape.
        head: the adapter's dense head, which becomes the folder's default.

    Errors: TTDError where there can be no folder, or it cannot be written.
    """
    if source.config is None:
        raise TTDError(
            f"no folder can be made of this model ({source.why_not}): name a file, "
            "--out X.safetensors, and load it with --weights"
        )
    if source.folder is not None:
        for name in TOKENIZERS:
            for path in sorted(source.folder.glob(name)):
                store(folder / path.name, path.read_bytes())
    config = {**source.config, "ttd": {**source.config.get("ttd", {}), "head": head}}
    write_file(state, folder / FOLDER_WEIGHTS)
    store(folder / FOLDER_CONFIG, (json.dumps(config, indent=2) + "\n").encode())


@torch.no_grad()
def largest_difference(one: Backbone, other: Backbone) -> float:
    """Largest absolute difference of pixel and text embeddings of unit length.

    On two images and four texts of random numbers. In float64, so that what differs is the weights
    and not the rounding of two ways to multiply; both are float32 again afterwards, to the bit.
    """
    one.double(), other.double()
    try:
        return _difference(one, other)
    finally:
        one.float(), other.float()


def _difference(one: Backbone, other: Backbone) -> float:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, one.image_size, one.image_size + one.patch, generator=draw)
    size = (4, len(one.text.positional_embedding))
    tokens = torch.randint(one.text.token_embedding.num_embeddings, size, generator=draw)
    pairs = (
        (one.encode_pixels(images), other.encode_pixels(images)),
        (one.encode_tokens(tokens), other.encode_tokens(tokens)),
    )
    return max(float((F.normalize(a, dim=1) - F.normalize(b, dim=1)).abs().max()) for a, b in pairs)


def _at_float32(value: Tensor) -> Tensor:
    """Detached, in float32; integers stay."""
    return value.detach().float() if value.is_floating_point() else value


def _place(module: str, state: Mapping[str, Tensor]) -> tuple[str, int | None]:
    """The file's name of a linear's weight, and which third of it that is (None: all of it)."""
    names = _names_of(module, state)
    found = [name for name in names if name in state]
    if not found:
        raise TTDError(f"cannot merge {module}: the model's file has none of {', '.join(names)}")
    last = module.rpartition(".")[2]
    return found[0], PACKED.index(last) if last in PACKED else None


def _names_of(module: str, state: Mapping[str, Tensor]) -> list[str]:
    """What the weight of a linear may be called in files."""
    tower, _, rest = module.partition(".")
    block = re.fullmatch(r"blocks\.(\d+)\.(attn|mlp)\.(\w+)", rest)
    if block is None or tower not in BLOCKS:  # SigLIP's pool
        return [f"visual.trunk.{rest.removeprefix('readout.')}.weight"]
    number, part, last = int(block[1]), block[2], block[3]
    if tower == "masker":
        number = tcl_layout.indices(state, tcl_layout.TAIL)[number]
    inner = ATTENTION[last] if part == "attn" else (f"mlp.{last}.weight",)
    return [f"{prefix}{number}.{name}" for prefix, name in itertools.product(BLOCKS[tower], inner)]


def _tcl_state(path: Path) -> State:
    """TCL's tensors; frozen towers that the file lacks, as the released one, are OpenAI's."""
    content = read_checkpoint(path)
    state = tcl_layout.needed_for_inference(content.get("model", content))
    if any(key.startswith("clip_") for key in state):
        return state
    frozen = state_dict_of_openai_clip()
    clip = {tcl_layout.from_openai(key): value for key, value in frozen.items()}
    wanted = tcl_layout.clip_layout(tcl_layout.sizes_of({**clip, **state}, path))
    return state | {key: clip[key] for key in wanted}


def _made_config(model: OpenCLIP, name: str) -> dict[str, Any]:
    """A folder's config for a model that open_clip knows by name."""
    import open_clip

    config = open_clip.get_model_config(name)
    if any(type(module).__name__ == "QuickGELU" for module in model.modules()):
        # decided by the tag of the weights, which a folder does not have
        config["quick_gelu"] = True
    return {"model_cfg": config, "preprocess_cfg": dict(model.visual.preprocess_cfg)}


def _hub_tokenizer(name: str) -> bool:
    import open_clip

    return bool(open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name"))
