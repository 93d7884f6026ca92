"""PEFT's adapter_config.json: what of it is plain LoRA, and what would act otherwise than trained.

Accepted is a list of what is known to be right, not all but what is known to be wrong: PEFT gains
a form of adapter with every release, and read as plain LoRA it would give wrong numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import TTDError
from ...utils.json_lines import load_json

CONFIG = "adapter_config.json"
# Keys that do not change what a stored adapter computes: how it was made, and on which modules.
HARMLESS = frozenset(
    {
        *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "target_modules", "exclude_modules", "layers_to_transform"),
        *("layers_pattern", "lora_dropout", "megatron_core", "qalora_group_size", "eva_config"),
    }
)
READ = frozenset({"peft_type", "r", "lora_alpha", "use_rslora", "init_lora_weights", "bias"})
# Ways to draw A and B that leave the base as it is. PiSSA, OLoRA, LoftQ, CorDA and LoRA-GA change
# the base too, which an adapter file does not hold.
INITS = (True, False, "gaussian", "eva", "orthogonal")
NEUTRAL: tuple[Any, ...] = (None, False, "", {}, [], 0)


def read_peft_config(path: Path) -> dict[str, Any]:
    """`alpha` and `rank` of a PEFT config, where it has them; scale = alpha / rank.

    rsLoRA's scale is lora_alpha / sqrt(r), which is that of alpha = lora_alpha sqrt(r).
    Errors: TTDError: missing, damaged, or anything but plain LoRA of one rank; every such key is
    named.
    """
    config = _read(path)
    other = [_shown(key, value) for key, value in config.items() if not _is_plain(key, value)]
    if other:
        raise TTDError(
            f"{path}: adapters with {', '.join(other[:6])} are not supported; plain LoRA of one "
            "rank is"
        )
    said = {}
    if "lora_alpha" in config:
        said["alpha"] = config["lora_alpha"]
    if "r" in config:
        said["rank"] = config["r"]
    if config.get("use_rslora"):
        said["alpha"] = _rs_alpha(config, path)
    return said


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise TTDError(f"{path.parent} has no {CONFIG}: name a PEFT folder or an adapter file")
    config = load_json(path, "it is not a readable PEFT config")
    if not isinstance(config, dict):
        raise TTDError(f"{path} is not a readable PEFT config (no JSON object)")
    return config


def _is_plain(key: str, value: Any) -> bool:
    if key in HARMLESS:
        return True
    if key == "peft_type":
        return str(value) in ("LORA", "PeftType.LORA")
    if key == "bias":
        return bool(value == "none")
    if key == "init_lora_weights":
        return any(value is known or (value == known and value) for known in INITS)
    if key == "use_rslora":
        return isinstance(value, bool)
    return key in READ or any(value == neutral for neutral in NEUTRAL)


def _rs_alpha(config: Mapping[str, Any], path: Path) -> float:
    alpha, rank = config.get("lora_alpha"), config.get("r")
    if not isinstance(alpha, int | float) or not isinstance(rank, int) or rank < 1:
        raise TTDError(f"{path}: rsLoRA needs lora_alpha and r to know its scale")
    return float(alpha) * math.sqrt(rank)


def _shown(key: str, value: Any) -> str:
    return f"{key} {json.dumps(value, default=str)[:40]}"
