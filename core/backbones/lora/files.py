"""Adapter files: one safetensors file, a `.pt` state dict of the same names, or a PEFT folder.

A file holds PEFT's names (`base_model.model.MODULE.lora_A.weight` [r, in], `...lora_B.weight`
[out, r]) and, in a safetensors file, a metadata entry `ttd`: `AdapterInfo` as a JSON object. That
is the only entry: the order of several differs between runs, and equal adapters are equal files.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import TTDError
from ...utils.files import write_bytes, write_errors
from ..base import Backbone
from ..weights import check_tensors, hub, read_checkpoint, reading, shorten

PREFIX = "base_model.model."
HALVES = (".lora_A.weight", ".lora_B.weight")
PEFT_KEYS = {"lora_alpha": "alpha", "r": "rank"}  # what we read in PEFT's config, and our names
CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
# What PEFT can do and this project does not: read as plain LoRA, such an adapter would act
# otherwise than trained.
UNSUPPORTED = (
    "use_dora",
    "use_rslora",
    "lora_bias",
    "alpha_pattern",
    "rank_pattern",
    "modules_to_save",
)


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter says of itself; None where its file does not say.

    alpha, rank: the scale is alpha / rank;
    arch, head, base_checksum: of the base it was trained on, as loaded in float32;
    recipe: how it was trained, any JSON value.
    """

    alpha: float | None = None
    rank: int | None = None
    arch: str | None = None
    head: str | None = None
    base_checksum: str | None = None
    recipe: dict[str, Any] | str | None = None

    @classmethod
    def of(cls, backbone: Backbone, recipe: dict[str, Any] | str | None = None) -> "AdapterInfo":
        """For an adapter to be trained on `backbone`.

        The backbone has none yet and is in float32, as it will be loaded later.
        """
        return cls(
            arch=backbone.arch, head=backbone.head, base_checksum=backbone.checksum, recipe=recipe
        )


def read_adapter(source: str | Path) -> tuple[dict[str, Tensor], AdapterInfo]:
    """An adapter's tensors, and what its file says of itself. Nothing in it is executed.

    Args:
        source: a safetensors file, a `.pt` state dict of the same names (where X.pt is absent,
            X.safetensors is taken), a PEFT folder, or `hf-hub:ORG/NAME`.

    Returns: `MODULE.lora_A.weight` [r, in] and `MODULE.lora_B.weight` [out, r] by these names.
    Errors: TTDError when it is missing, damaged, pickled, no plain LoRA, not finite, or of scale 0.
    """
    path = _locate(source)
    config: dict[str, Any] = {}
    file = path
    if path.is_dir():
        config, file = _peft_config(path), _weights_in(path)
    state = read_checkpoint(file)
    check_tensors(state, file)
    state = {name.removeprefix(PREFIX): value for name, value in state.items()}
    _check_values(state, file)
    own = {ours: config[theirs] for theirs, ours in PEFT_KEYS.items() if theirs in config}
    return state, _info(_metadata(file) | own, path)


def write_adapter(state: Mapping[str, Tensor], path: str | Path, info: AdapterInfo) -> None:
    """Write an adapter as one safetensors file, whole or not at all.

    state: [r, in] and [out, r] by names without PEFT's prefix. TTDError: it cannot be written.
    """
    from safetensors.torch import save

    content = {PREFIX + name: value.detach().cpu().contiguous() for name, value in state.items()}
    store(Path(path), save(content, metadata={"ttd": json.dumps(asdict(info), sort_keys=True)}))


def write_peft_folder(state: Mapping[str, Tensor], folder: str | Path, info: AdapterInfo) -> None:
    """Write the folder that `peft.PeftModel.from_pretrained` reads.

    state: as in `write_adapter`. TTDError: it cannot be written.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=info.rank,
        lora_alpha=info.alpha,
        lora_dropout=0.0,
        target_modules=module_names(state),
        inference_mode=True,
    ).to_dict()
    config |= {"target_modules": module_names(state), "base_model_name_or_path": info.arch}
    write_adapter(state, Path(folder) / WEIGHTS[0], info)
    text = json.dumps(config, indent=2, sort_keys=True, default=str) + "\n"
    store(Path(folder) / CONFIG, text.encode())


def module_names(state: Iterable[str]) -> list[str]:
    """Sorted names of the modules that tensors called as in `read_adapter` belong to."""
    return sorted({module_of(name) for name in state})


def module_of(name: str) -> str:
    """`MODULE` of `MODULE.lora_A.weight` or `MODULE.lora_B.weight`."""
    return name.rsplit(".lora_", 1)[0]


def store(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, its folder made where missing. TTDError: it cannot be."""
    with write_errors(path, "check folder, permissions and disk"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)


def _locate(source: str | Path) -> Path:
    """The file or folder that `source` names, fetched from the hub where it says so."""
    if str(source).startswith("hf-hub:"):
        return _fetch(str(source))
    path = Path(source).expanduser()
    twin = path.with_suffix(".safetensors")
    if path.exists():
        return path
    if twin.is_file():
        return twin
    raise TTDError(
        f"no LoRA adapter at {path}: check the path, or leave --lora out for the plain model"
    )


def _fetch(source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with hub():
            return Path(
                snapshot_download(source.removeprefix("hf-hub:"), allow_patterns=[CONFIG, *WEIGHTS])
            )
    except Exception as error:
        raise TTDError(
            f"adapter {source} could not be fetched ({shorten(error)}): check name and network"
        ) from None


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise TTDError(f"{folder} has no {WEIGHTS[0]}: name a PEFT folder or an adapter file")


def _peft_config(folder: Path) -> dict[str, Any]:
    """The folder's adapter_config.json. TTDError: missing, damaged, or not plain LoRA."""
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = str(config.get("peft_type", "LORA"))
    except FileNotFoundError:
        raise TTDError(f"{folder} has no {CONFIG}: name a PEFT folder or an adapter file") from None
    except (OSError, ValueError, AttributeError) as error:
        raise TTDError(f"{path} is not a readable PEFT config ({shorten(error)})") from None
    unsupported = [key for key in UNSUPPORTED if config.get(key)]
    if kind != "LORA":
        unsupported.insert(0, f"peft_type {kind}")
    if unsupported:
        raise TTDError(
            f"{path}: adapters with {', '.join(unsupported)} are not supported; plain LoRA of one "
            "rank is"
        )
    return config


def _metadata(path: Path) -> dict[str, Any]:
    """The `ttd` entry of a safetensors file's metadata; {} where there is none."""
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        return dict(json.loads((file.metadata() or {}).get("ttd", "{}")))


def _info(entries: Mapping[str, Any], path: Path) -> AdapterInfo:
    """The entries that are known, their types and the scale checked."""
    known = AdapterInfo.__dataclass_fields__
    info = AdapterInfo(**{key: value for key, value in entries.items() if key in known})
    words = (info.arch, info.head, info.base_checksum)
    typed = all(isinstance(word, str | None) for word in words)
    if not typed or not isinstance(info.rank, int | None):
        raise TTDError(f"{path} says of itself what no adapter can: {dict(entries)!s:.200}")
    if info.alpha is not None and not _is_scale(info.alpha):
        raise TTDError(
            f"{path}: alpha is {info.alpha}, so this adapter would do nothing, or nothing "
            "sensible: it is damaged"
        )
    return info


def _is_scale(alpha: object) -> bool:
    return isinstance(alpha, int | float) and math.isfinite(alpha) and alpha != 0


def _check_values(state: Mapping[str, Tensor], path: Path) -> None:
    """TTDError unless every tensor is one of the two halves, and finite."""
    invalid = [name for name in state if not name.endswith(HALVES)]
    if invalid or not state:
        raise TTDError(
            f"{path} is not a LoRA adapter: it holds {', '.join(invalid[:3]) or 'nothing'} where "
            "MODULE.lora_A.weight and MODULE.lora_B.weight must be"
        )
    broken = [
        name
        for name, value in state.items()
        if not value.is_floating_point() or not bool(torch.isfinite(value).all())
    ]
    if broken:
        rest = f" and {len(broken) - 3} more" * (len(broken) > 3)
        raise TTDError(
            f"{path}: {', '.join(broken[:3])}{rest} not finite numbers: its training had diverged, "
            "or the file is damaged"
        )
