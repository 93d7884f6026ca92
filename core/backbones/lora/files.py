"""Adapter files: one safetensors file, a `.pt` state dict of the same names, or a PEFT folder.

A file holds PEFT's names (`base_model.model.MODULE.lora_A.weight` [r, in], `...lora_B.weight`
[out, r]) and, in a safetensors file, a metadata entry `ttd`: `AdapterInfo` as a JSON object. That
is the only entry: the order of several differs between runs, and equal adapters are equal files.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import TTDError
from ...utils.files import expanded, is_there, write_bytes, write_errors
from ...utils.finite import check_weights
from ...utils.tensors.file_kinds import file_kind
from ..base import Backbone
from ..hub_files import hub_folder, is_hub_name
from ..weights import check_tensors, read_checkpoint, reading
from .peft_config import CONFIG, read_peft_config

PREFIX = "base_model.model."
HALVES = (".lora_A.weight", ".lora_B.weight")
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


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
            X.safetensors is taken), a PEFT folder, or `hf-hub:ORG/NAME[@REVISION]`.

    Returns: `MODULE.lora_A.weight` [r, in] and `MODULE.lora_B.weight` [out, r] by these names.
    Errors: TTDError when it is missing, damaged, pickled, no plain LoRA, not finite, or of scale 0.
    """
    path = _locate(source)
    file = _weights_in(path) if path.is_dir() else path
    said = _metadata(file)
    config = file.with_name(CONFIG)
    if path.is_dir() or ("alpha" not in said and config.is_file()):
        said |= read_peft_config(config)
    content = read_checkpoint(file)
    state = {str(name).removeprefix(PREFIX): value for name, value in content.items()}
    _check_names(state, file)
    check_tensors(state, file)
    info = _info(said, path)
    if info.alpha is None:
        warnings.warn(
            f"{path} does not say its alpha, and there is no {CONFIG} beside it: alpha = rank is "
            "assumed (scale 1)",
            stacklevel=2,
        )
    return state, info


def write_adapter(state: Mapping[str, Tensor], path: str | Path, info: AdapterInfo) -> None:
    """Write an adapter as one safetensors file, whole or not at all.

    state: [r, in] and [out, r] by names without PEFT's prefix. TTDError: it cannot be written.
    """
    from safetensors.torch import save

    check_weights(state, path)
    content = {PREFIX + name: value.detach().cpu().contiguous() for name, value in state.items()}
    store(Path(path), save(content, metadata={"ttd": json.dumps(asdict(info), sort_keys=True)}))


def write_peft_folder(state: Mapping[str, Tensor], folder: str | Path, info: AdapterInfo) -> None:
    """Write the folder that `peft.PeftModel.from_pretrained` reads.

    state: [r, in] and [out, r] by names, as in `write_adapter`. TTDError: it cannot be written.
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
        write_bytes(path, data, durable=True)


def _locate(source: str | Path) -> Path:
    """The file or folder that `source` names, fetched from the hub where it says so."""
    if is_hub_name(source):
        return hub_folder(source, [CONFIG, *WEIGHTS], "adapter")
    path = expanded(source)
    if is_there(path):
        return path
    twin = path.parent / f"{path.stem}.safetensors"
    if is_there(twin) and twin.is_file():
        return twin
    raise TTDError(
        f"no LoRA adapter at {path}: check the path, or leave --lora out for the plain model"
    )


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise TTDError(f"{folder} has no {WEIGHTS[0]}: name a PEFT folder or an adapter file")


def _metadata(path: Path) -> dict[str, Any]:
    """The `ttd` entry of a safetensors file's metadata; {} where there is none."""
    if not path.is_file() or file_kind(path) != "safetensors":
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


def _is_scale(alpha: Any) -> bool:
    number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    return number and math.isfinite(alpha) and alpha != 0


def _check_names(state: Mapping[str, Any], path: Path) -> None:
    """TTDError unless every tensor is one of the two halves."""
    invalid = [name for name in state if not name.endswith(HALVES)]
    if invalid or not state:
        raise TTDError(
            f"{path} is not a LoRA adapter: it holds {', '.join(invalid[:3]) or 'nothing'} where "
            "MODULE.lora_A.weight and MODULE.lora_B.weight must be"
        )
