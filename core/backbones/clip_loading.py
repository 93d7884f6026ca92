"""From a name to an open_clip model with its weights: built-in names, local folders, the Hugging Face Hub."""

import difflib
import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import TTDError
from . import openclip
from .base import CLIP_MASK
from .clip import CLIPBackbone
from .weights import (
    OFFLINE_HINT,
    OPENAI_MODEL,
    WEIGHTS,
    check_tensors,
    existing_file,
    hub,
    is_torchscript,
    openai_clip_file,
    quiet,
    reading,
    shorten,
)

VOCABULARIES = (
    ".json",
    ".txt",
    ".gz",
    ".model",
)  # files of a model's folder that its tokenizer may be made of


def load_clip(arch: str, weights: str | Path | None) -> tuple[CLIPBackbone, str]:
    """Any arch but TCL (see `load_backbone`) -> its backbone in float32 on the CPU, and its default dense head.

    The head follows the pooling, unless a local folder's config names one (key "ttd", `head`).
    """
    model, name = load_openclip_model(arch, weights)
    own = _own_settings(name)
    mask = float(own.get("mask_scale", CLIP_MASK[0])), float(own.get("mask_bias", CLIP_MASK[1]))
    backbone = CLIPBackbone(
        openclip.vision_tower(model, arch),
        openclip.text_tower(model, arch),
        Tokenizer(name),
        openclip.preprocess(model),
        logit_scale=float(model.logit_scale.detach().exp()),
        mask=mask,
    )
    return backbone, own.get("head") or backbone.visual.readout.default_head


def load_openclip_model(arch: str, weights: str | Path | None) -> tuple[nn.Module, str]:
    """The open_clip model of `arch` with its weights, and the name open_clip knows it by (for the tokenizer)."""
    if arch in ("CLIP", "MaskCLIP"):
        arch = f"{OPENAI_MODEL}:openai"
    if arch == "tiny":
        arch = f"local-dir:{WEIGHTS / 'tiny'}"
    if arch.startswith("local-dir:"):
        return _from_folder(Path(arch.removeprefix("local-dir:")).expanduser(), weights)
    if arch.startswith("hf-hub:"):
        return _from_hub(arch, weights), arch
    return _builtin(arch, weights)


class Tokenizer:
    """open_clip's tokenizer for `name`, made at the first call: some need a download that token ids do not."""

    def __init__(self, name: str):
        self._name, self._made = name, None

    def __call__(self, texts: list[str]) -> Tensor:
        if self._made is None:
            self._made = _make_tokenizer(self._name)
        return self._made(texts)

    @property
    def key(self) -> str:
        """What decides its token ids, without making it: open_clip's version, and the files of a local folder."""
        parts = [self._name, version("open_clip_torch")]
        if self._name.startswith("local-dir:"):
            folder = Path(self._name.removeprefix("local-dir:"))
            parts[0] = "local-dir"  # the same files elsewhere are the same tokenizer
            parts += [
                f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
                for path in sorted(folder.iterdir())
                if path.suffix in VOCABULARIES and path.is_file()
            ]
        return "; ".join(parts)


def _make_tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    import open_clip

    folder = Path(name.removeprefix("local-dir:"))
    own = folder / "bpe.txt.gz"
    try:
        with hub():
            if name.startswith("local-dir:") and own.is_file():  # a vocabulary smaller than CLIP's
                return open_clip.SimpleTokenizer(
                    bpe_path=str(own), context_length=_context_length(folder)
                )
            return open_clip.get_tokenizer(name)
    except Exception as error:
        raise TTDError(
            f"the tokenizer of {name} could not be loaded ({shorten(error)}): it needs files from the "
            f"Hugging Face Hub once, {OFFLINE_HINT}"
        ) from None


def _builtin(arch: str, weights: str | Path | None) -> tuple[nn.Module, str]:
    import open_clip

    name, _, source = arch.partition(":")
    if name not in open_clip.list_models():
        similar = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.0)
        raise TTDError(
            f"unknown arch {arch!r}: use CLIP, TCL, tiny, MODEL:PRETRAINED or MODEL:/path/to/checkpoint "
            f"(MODEL from open_clip, such as {', '.join(similar)}), hf-hub:ORG/NAME or local-dir:/path"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = open_clip.get_pretrained_cfg(name, source) if source in tags and weights is None else {}
    if not (tag or weights or "/" in source or Path(source or "/").expanduser().is_file()):
        raise TTDError(
            f"{arch}: say which weights, as {name}:TAG with TAG one of {', '.join(tags) or '(none known)'}, "
            f"or {name}:/path/to/checkpoint"
        )
    model = _skeleton(name, quick_gelu=tag.get("quick_gelu", False))
    openclip.check_served(model, arch)
    return _fill(
        model, _download(name, source, tag) if tag else existing_file(weights or source)
    ), name


def _skeleton(name: str, quick_gelu: bool = False) -> nn.Module:
    """A built-in model, random until `_fill` (which is strict) has run."""
    import open_clip

    preprocess = _preprocess_of(name)
    with hub():
        # The tag decides the activation: open_clip only warns where a model's name does not fit its
        # weights.
        return open_clip.create_model(
            name,
            force_quick_gelu=quick_gelu,
            force_preprocess_cfg=preprocess,
            pretrained_text=False,
        )


def _download(name: str, tag: str, config: dict) -> Path:
    from open_clip.pretrained import download_pretrained

    if name in (OPENAI_MODEL, "ViT-B-16") and tag == "openai":
        return openai_clip_file()
    try:
        with hub():
            return Path(download_pretrained(config))
    except Exception as error:
        raise TTDError(
            f"weights {name}:{tag} are not cached and could not be downloaded ({shorten(error)}): get them "
            f"from {config.get('hf_hub') or config.get('url')}, use {name}:/path/to/checkpoint, "
            f"{OFFLINE_HINT}"
        ) from None


def _fill(model: nn.Module, path: Path) -> nn.Module:
    """Load `path` into `model`, every tensor and no other, whatever of open_clip's layouts the file has."""
    from open_clip.convert import convert_state_dict, load_big_vision_weights
    from open_clip.factory import load_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    with reading(path), quiet():
        if path.suffix == ".npz":
            load_big_vision_weights(model, str(path))
            return model
        # A TorchScript archive cannot be read by weights_only; it holds no pickled code either.
        state = load_state_dict(str(path), weights_only=not is_torchscript(path))
        check_tensors(state, path)
        state = convert_state_dict(model, state)
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        for name in ("logit_scale", "logit_bias"):  # files differ in [] and [1]
            if name in state and getattr(model, name, None) is not None:
                state[name] = state[name].reshape(getattr(model, name).shape)
        # Not open_clip.load_checkpoint: it resizes a position table that does not fit in silence,
        # by another rule.
        model.load_state_dict(state, strict=True)
    return model


def _preprocess_of(name: str) -> dict:
    """Mean and std that all of a built-in model's pretrained tags agree on (SigLIP's differ from CLIP's), else none."""
    import open_clip

    configs = [
        open_clip.get_pretrained_cfg(name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(name)
    ]
    known = {(tuple(c["mean"]), tuple(c["std"])) for c in configs if c.get("mean") and c.get("std")}
    return dict(zip(("mean", "std"), known.pop(), strict=True)) if len(known) == 1 else {}


def _from_folder(folder: Path, weights: str | Path | None) -> tuple[nn.Module, str]:
    import open_clip

    config = folder / "open_clip_config.json"
    if not config.is_file():
        raise TTDError(
            f"{folder} has no open_clip_config.json: local-dir: wants a folder with open_clip's config and "
            f"weights, {OFFLINE_HINT}"
        )
    name = f"local-dir:{folder}"
    path = existing_file(weights) if weights else _weights_in(folder)
    with reading(config), quiet():
        model = open_clip.create_model(name, load_weights=False)
    openclip.check_served(model, name)
    return _fill(model, path), name


def _weights_in(folder: Path) -> Path:
    from open_clip.factory import _find_checkpoint_in_dir

    found = _find_checkpoint_in_dir(folder)
    if not found:
        raise TTDError(
            f"no weights in {folder}: expected open_clip_model.safetensors (or open_clip_pytorch_model.bin) "
            f"beside open_clip_config.json, {OFFLINE_HINT}"
        )
    return Path(found)


def _from_hub(arch: str, weights: str | Path | None) -> nn.Module:
    import open_clip

    try:
        with hub():
            model = open_clip.create_model(
                arch, load_weights=weights is None, require_pretrained=weights is None
            )
    except Exception as error:
        raise TTDError(
            f"{arch} could not be loaded from the Hugging Face Hub or its cache ({shorten(error)}): check "
            f"the name and the network, {OFFLINE_HINT}"
        ) from None
    openclip.check_served(model, arch)
    return model if weights is None else _fill(model, existing_file(weights))


def _own_settings(name: str) -> dict:
    """What a local folder's config says under "ttd": `mask_scale` a, `mask_bias` b, `head`; else nothing."""
    return (
        _config(Path(name.removeprefix("local-dir:"))).get("ttd", {})
        if name.startswith("local-dir:")
        else {}
    )


def _context_length(folder: Path) -> int:
    return _config(folder)["model_cfg"]["text_cfg"].get("context_length", 77)


def _config(folder: Path) -> dict:
    return json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))


def state_dict_of_openai_clip() -> dict[str, Tensor]:
    """OpenAI's ViT-B/16 as a flat state dict in OpenAI's names, float32, without logit_scale."""
    state = _fill(_skeleton(OPENAI_MODEL), openai_clip_file()).state_dict()
    return {key: value.to(torch.float32) for key, value in state.items() if key != "logit_scale"}
