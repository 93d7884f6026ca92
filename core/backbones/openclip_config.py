"""A model folder's or hub repository's open_clip config, checked before open_clip acts on it.

A config comes from a stranger. open_clip hands parts of it to other libraries as they stand, and
one of their options runs Python files of the repository (`trust_remote_code`); so only keys that
are known to be harmless pass, and sizes stay within what a model can have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import TTDError
from ..utils.files import section as mapping
from ..utils.json_lines import load_json
from .weights import hub

FOLDER_CONFIG = "open_clip_config.json"
MOST = 10_000_000  # the largest number in any config: a vocabulary has up to 256,000 words
MOST_LAYERS = 200
LARGEST_SIDE = 10_000
SMALL = ("layers", "heads", "patch_size")  # at most `MOST_LAYERS`
MIDDLE = ("image_size", "context_length")  # at most `LARGEST_SIDE`
# What decides how many parameters there are.
SIZES = (
    *("width", "layers", "mlp_ratio", "patch_size", "image_size"),
    *("vocab_size", "context_length"),
)
# Of model_cfg: arguments of open_clip's models.
TOP_KEYS = frozenset(
    {
        *("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "cast_dtype"),
        *("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "output_dict"),
        *("multimodal_cfg", "audio_cfg"),
    }
)
TOKENIZER_KEYS = frozenset({"clean", "strip_sep_token"})
# What the mappings among a section's values may hold.
OPTIONS = {
    "tokenizer_kwargs": TOKENIZER_KEYS,
    "norm_kwargs": frozenset({"eps"}),
    "act_kwargs": frozenset({"approximate"}),
}
NEVER = frozenset({"hf_model_name", "hf_model_pretrained", "timm_model_pretrained"})


def folder_config(folder: Path) -> dict[str, Any]:
    """The config in a model's folder, not checked. TTDError when it is no JSON object."""
    path = folder / FOLDER_CONFIG
    config = load_json(path, "it is not a config of open_clip")
    if not isinstance(config, dict):
        raise TTDError(f"{path}: a config is a JSON object, with `model_cfg` in it")
    return config


def hub_config(arch: str) -> dict[str, Any]:
    """The checked config of a hub repository (`hf-hub:ORG/NAME`), from its cache or fetched.

    Errors: TTDError as `check_config`; those of the Hugging Face Hub where it cannot be fetched.
    """
    from open_clip.factory import _get_hf_config

    with hub():
        config = _get_hf_config(arch.removeprefix("hf-hub:"))
    return check_config(config, f"{arch}: {FOLDER_CONFIG}")


def check_config(config: Any, source: str) -> dict[str, Any]:
    """`config` (a whole open_clip_config.json) when everything in it is known and of a size.

    Errors: TTDError naming `source` and the key: no model_cfg, an unknown key, a text tower of
    Hugging Face, weights fetched by name, options of tokenizers, sizes beyond any model's.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise TTDError(f"{source}: no `model_cfg` in it; it is not a config of open_clip")
    model = config["model_cfg"]
    _check_keys(model, TOP_KEYS, source, "model_cfg")
    for section, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        values = model.get(section)
        if not isinstance(values, dict):
            raise TTDError(f"{source}: {section} is missing in model_cfg")
        _check_keys(values, {field.name for field in fields(kind)}, source, section)
        if section == "text_cfg":
            _check_tokenizer(values, source)
        _check_values(values, source, section)
    _check_values({"embed_dim": model.get("embed_dim")}, source, "model_cfg")
    _check_preprocess(config.get("preprocess_cfg"), source)
    _check_own(config.get("ttd"), source)
    return config


def check_folder(folder: Path, weights: Path) -> None:
    """TTDError as `check_config`, and for a model that a file of its size cannot fill.

    Memory would be taken before that is found out.
    """
    source = str(folder / FOLDER_CONFIG)
    least = _least_parameters(check_config(folder_config(folder), source))
    if least > weights.stat().st_size:
        raise TTDError(f"{source}: a model of at least {least} parameters; {weights} holds fewer")


def _least_parameters(config: Mapping[str, Any]) -> int:
    """Parameters of attention, hidden layers and tables of both towers, where sizes are numbers.

    A file of weights has at least so many bytes.
    """
    model, count = config["model_cfg"], 0.0
    for section in ("vision_cfg", "text_cfg"):
        values = mapping(model, section)
        size = {key: _number(values.get(key)) for key in SIZES}
        width, patch = size["width"], max(1.0, size["patch_size"])
        count += size["layers"] * width**2 * (4 + 2 * size["mlp_ratio"])
        rows = size["vocab_size"] + size["context_length"] + (size["image_size"] / patch) ** 2
        count += rows * width
    return int(count)


def _number(value: Any) -> float:
    """`value` where it is a positive number, 0 otherwise."""
    return max(0.0, float(value)) if isinstance(value, int | float) else 0.0


def _check_preprocess(values: Any, source: str) -> None:
    """TTDError for a mean, std or size that no image can have."""
    if values is None:
        return
    if not isinstance(values, dict):
        raise TTDError(f"{source}: preprocess_cfg is no mapping")
    for key, least in (("mean", -math.inf), ("std", 0.0)):
        numbers = values.get(key, [1, 1, 1])
        fine = isinstance(numbers, list) and len(numbers) == 3
        if not fine or not all(_is_number(value) and value > least for value in numbers):
            raise TTDError(f"{source}: {key} in preprocess_cfg must be three numbers, std above 0")
    size = values.get("size", 1)
    sides = size if isinstance(size, list) else [size]
    if not sides or not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in sides):
        raise TTDError(f"{source}: size in preprocess_cfg is no size of an image")


def _check_own(values: Any, source: str) -> None:
    """TTDError for what `ttd` says of the masks and the head that cannot be."""
    if values is None:
        return
    if not isinstance(values, dict):
        raise TTDError(f"{source}: ttd is no mapping")
    for key in ("mask_scale", "mask_bias"):
        if key in values and not _is_number(values[key]):
            raise TTDError(f"{source}: {key} in ttd is no number")
    if not isinstance(values.get("head"), str | None):
        raise TTDError(f"{source}: head in ttd is no name")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < MOST  # False for NaN


def _check_keys(
    values: Mapping[str, Any], known: frozenset[str] | set[str], source: str, section: str
) -> None:
    unknown = sorted(str(key) for key in values if key not in known)
    if unknown:
        raise TTDError(
            f"{source}: unknown {', '.join(unknown[:5])} in {section}; a config is only followed "
            "where every key is known, remove them if the model works without"
        )
    for key in NEVER & values.keys():
        if values[key]:
            raise TTDError(
                f"{source}: {key} in {section} is not supported: a tower that another library "
                "fetches by name"
            )


def _check_values(values: Mapping[str, Any], source: str, section: str) -> None:
    """Numbers within bounds; no mapping but a tokenizer's options and layers' neutral ones."""
    for key, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            most = MOST_LAYERS if key in SMALL else LARGEST_SIDE if key in MIDDLE else MOST
            if isinstance(number, int | float) and not abs(number) <= most:
                raise TTDError(f"{source}: {key} {number} in {section} is beyond any model's")
        if isinstance(value, dict) and not set(value) <= OPTIONS.get(key, frozenset()):
            raise TTDError(f"{source}: options in {key} of {section} are not supported")


def _check_tokenizer(text: Mapping[str, Any], source: str) -> None:
    options = text.get("tokenizer_kwargs") or {}
    if not isinstance(options, dict) or not set(options) <= TOKENIZER_KEYS:
        raise TTDError(
            f"{source}: tokenizer_kwargs may hold {', '.join(sorted(TOKENIZER_KEYS))} and nothing "
            "else: other options can run code"
        )
    name = text.get("hf_tokenizer_name")
    if name is not None and not isinstance(name, str):
        raise TTDError(f"{source}: hf_tokenizer_name must be a name")
