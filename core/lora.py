"""LoRA adapters on a backbone: `W + (alpha / r) B A` on plain linears, through PEFT, in one file.

A file holds PEFT's names (`base_model.model.MODULE.lora_A.weight` [r,in], `...lora_B.weight` [out,r]) and, in a
safetensors file, a metadata entry `ttd`: a JSON object with arch, head, base_checksum and alpha.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from core.backbones.base import Backbone
from core.backbones.weights import existing_file, hub, read_checkpoint, reading, shorten
from core.errors import TTDError

PREFIX = "base_model.model."
ADAPTER = "default"  # PEFT's name of the one adapter that a backbone has


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter says of itself; None where its file does not say."""

    alpha: float | None = None
    arch: str | None = None
    head: str | None = None
    base_checksum: str | None = None


def load_adapter(backbone: Backbone, source: str | Path) -> None:
    """Put the adapter at `source` on `backbone`, in place; its parameters are the only ones with a gradient.

    Args:
        source: a safetensors file, a `.pt` state dict of the same names (where X.pt is absent, X.safetensors is
            taken), a PEFT folder, or `hf-hub:ORG/NAME`. A file without alpha has alpha = rank, that is scale 1.

    Errors: TTDError when it is missing, names modules the backbone lacks, has other shapes, or was made for other base
        weights or another dense head.
    """
    state, info = read_adapter(source)
    _check_base(backbone, info, source)
    rank = _check_shapes(backbone, state, source)
    add_adapter(backbone, sorted({name.rsplit(".lora_", 1)[0] for name in state}), rank, info.alpha or rank)
    # By hand: PEFT's own loader passes over names that it does not find, and finds other names in other versions.
    parameters = adapter_parameters(backbone)
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(value)


def add_adapter(backbone: Backbone, modules: list[str], rank: int, alpha: float) -> None:
    """A fresh adapter (B = 0, so no change yet) on the named linears of `backbone`, in place."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, lora_dropout=0.0), backbone,
                             adapter_name=ADAPTER)


def adapter_parameters(backbone: Backbone) -> dict[str, nn.Parameter]:
    """The adapter's parameters by the file's names, PEFT's prefix left out: `MODULE.lora_A.weight` [r,in], `..._B..`.

    Empty where the backbone has no adapter.
    """
    return {name.replace(f".{ADAPTER}.", "."): parameter for name, parameter in backbone.named_parameters()
            if f".{ADAPTER}." in name}


@contextmanager
def adapter_disabled(backbone: Backbone) -> Iterator[None]:
    """Inside, `backbone` is its own frozen base: the adapter is passed by, at no cost.

    Every parameter has its gradient again afterwards, or still has none; nothing happens where there is no adapter.
    """
    from peft.tuners.lora import LoraLayer

    layers = [layer for layer in backbone.modules() if isinstance(layer, LoraLayer) and not layer.disable_adapters]
    trained = [parameter for parameter in adapter_parameters(backbone).values() if parameter.requires_grad]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter in adapter_parameters(backbone).values():
            parameter.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def adapter_swapped(backbone: Backbone, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the adapter's values are `tensors` (names of `adapter_parameters`): a slow average, say; then its own.

    Nothing is copied where device and type agree, so `tensors` must not change meanwhile, and backward passes belong
    outside. TTDError for names or shapes that are not the adapter's.
    """
    parameters = adapter_parameters(backbone)
    strange = sorted(parameters.keys() ^ tensors.keys()) or \
        [name for name, own in parameters.items() if own.shape != tensors[name].shape]
    if strange:
        raise TTDError(f"these are not the values of the adapter on {backbone.arch}: {', '.join(strange[:3])} missing, "
                       "unknown or of another shape")
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        _set_data(parameters, tensors)
        yield
    finally:
        _set_data(parameters, own)


def _set_data(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    torch.clear_autocast_cache()  # it knows a parameter by its identity, and would go on with the other values
    for name, parameter in parameters.items():
        parameter.data = values[name].detach().to(parameter)


def save_adapter(backbone: Backbone, path: str | Path, info: AdapterInfo) -> None:
    """Write the adapter on `backbone` as one safetensors file with `info` beside the tensors."""
    from safetensors.torch import save_file

    state = {PREFIX + name: value.detach().contiguous() for name, value in adapter_parameters(backbone).items()}
    save_file(state, path, metadata={"format": "pt", "ttd": json.dumps(asdict(info), sort_keys=True)})


def read_adapter(source: str | Path) -> tuple[dict[str, Tensor], AdapterInfo]:
    """Tensors by `MODULE.lora_A.weight` / `MODULE.lora_B.weight` and what the file says of itself. TTDError if none."""
    path = _locate(source)
    if path.is_dir():
        config = json.loads(existing_file(path / "adapter_config.json").read_text(encoding="utf-8"))
        weights = next((p for p in (path / "adapter_model.safetensors", path / "adapter_model.bin") if p.is_file()),
                       path / "adapter_model.safetensors")
        state, info = read_checkpoint(weights), AdapterInfo(alpha=config.get("lora_alpha"), **config.get("ttd", {}))
    else:
        state, info = read_checkpoint(path), _metadata(path)
    state = {name.removeprefix(PREFIX): value for name, value in state.items()}
    strange = [name for name in state if not name.endswith((".lora_A.weight", ".lora_B.weight"))]
    if strange or not state:
        raise TTDError(f"{path} is not a LoRA adapter: it holds {', '.join(strange[:3]) or 'nothing'} where "
                       "MODULE.lora_A.weight and MODULE.lora_B.weight are due")
    return state, info


def _locate(source: str | Path) -> Path:
    if str(source).startswith("hf-hub:"):
        from huggingface_hub import snapshot_download

        try:
            with hub():
                return Path(snapshot_download(str(source).removeprefix("hf-hub:"), allow_patterns=["adapter_*"]))
        except Exception as error:
            raise TTDError(f"adapter {source} could not be fetched ({shorten(error)}): check name and network"
                           ) from None
    path = Path(source).expanduser()
    twin = path.with_suffix(".safetensors")
    if path.exists() or not twin.is_file():
        if not path.exists():
            raise TTDError(f"no LoRA adapter at {path}: check the path, or leave --lora out for the plain model")
        return path
    return twin


def _metadata(path: Path) -> AdapterInfo:
    if path.suffix != ".safetensors":
        return AdapterInfo()
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        own = json.loads((file.metadata() or {}).get("ttd", "{}"))
    return AdapterInfo(**{key: value for key, value in own.items() if key in AdapterInfo.__dataclass_fields__})


def _check_base(backbone: Backbone, info: AdapterInfo, source: str | Path) -> None:
    if info.base_checksum and info.base_checksum != backbone.checksum:
        raise TTDError(f"adapter {source} was trained on other weights ({info.arch}, {info.base_checksum[:8]}) than "
                       f"these ({backbone.arch}, {backbone.checksum[:8]}): load the base it belongs to")
    if info.head and info.head != backbone.head:
        raise TTDError(f"adapter {source} was trained with dense head {info.head}, not {backbone.head}: pass --head "
                       f"{info.head}")


def _check_shapes(backbone: Backbone, state: dict[str, Tensor], source: str | Path) -> int:
    """The adapter's rank; TTDError listing modules that are absent, not linear, or of other shapes."""
    modules = dict(backbone.named_modules())
    ranks, wrong = set(), []
    for name, value in state.items():
        module = modules.get(name.rsplit(".lora_", 1)[0])
        side = 1 if name.endswith("lora_A.weight") else 0  # A is [r,in], B is [out,r]; a linear's weight is [out,in]
        if not isinstance(module, nn.Linear) or value.ndim != 2 or value.shape[side] != module.weight.shape[side]:
            wrong.append(f"{name} {tuple(value.shape)}")
        elif name.replace("lora_A" if side else "lora_B", "lora_B" if side else "lora_A") not in state:
            wrong.append(f"{name} without its other half")
        else:
            ranks.add(value.shape[1 - side])
    if wrong or len(ranks) != 1:
        raise TTDError(f"adapter {source} does not fit {backbone.arch}: {', '.join(wrong[:4]) or f'ranks {ranks}'}"
                       f"{f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''}")
    return int(ranks.pop())

