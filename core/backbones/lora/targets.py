"""Which linears of a backbone an adapter may sit on: exactly those that pixels and words pass.

Dense heads leave parts of the last block unused (`maskclip-value`: no queries, keys or MLP). An
adapter there would get no gradient, and DistributedDataParallel refuses parameters without one.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import nn

from ...errors import TTDError
from ..base import Backbone

ENCODERS = ("text", "image", "both")
PARTS = {"attn", "attn_pool", "mlp"}  # the modules whose linears are meant


def lora_targets(
    backbone: Backbone, encoders: str = "both", which: Sequence[str] | None = None
) -> list[str]:
    """Names of the attention and MLP linears that get a gradient through the two encoders, sorted.

    They are found by running `encode_text` and `encode_pixels` on one small input and noting which
    linears are called, with the backbone's own dense head; an adapter already on the backbone
    changes nothing. TCL's image encoder is its masker: the frozen CLIP image tower below it stays
    as it is.

    Args:
        encoders: "text", "image" or "both".
        which: last parts of names to keep, such as ("q_proj", "v_proj"); None = all.

    Errors: TTDError for other encoders, for names that no linear has (listing those there are), and
        when nothing is left.
    """
    if encoders not in ENCODERS:
        raise TTDError(f"unknown encoders {encoders!r}: use one of {', '.join(ENCODERS)}")
    found: list[str] = []
    if encoders != "image":
        found += _text_linears(backbone)
    if encoders != "text":
        found += _image_linears(backbone)
    kinds = sorted({_kind(name) for name in found})
    unknown = sorted(set(which or ()) - set(kinds))
    if unknown or (which is not None and not which):
        raise TTDError(
            f"no linear called {', '.join(unknown) or 'nothing'} in {backbone.arch} with dense "
            f"head {backbone.head} (encoders: {encoders}): choose among {', '.join(kinds)}"
        )
    return sorted(name for name in found if which is None or _kind(name) in which)


def _kind(name: str) -> str:
    """The last part of a module's name, such as `q_proj`."""
    return name.rpartition(".")[2]


def _text_linears(backbone: Backbone) -> list[str]:
    context = len(backbone.text.positional_embedding)
    tokens = torch.zeros(1, context, dtype=torch.long, device=backbone.device)
    called = _called(backbone, lambda: backbone.encode_tokens(tokens))
    return [name for name in called if name.startswith("text.")]


def _image_linears(backbone: Backbone) -> list[str]:
    trained = "masker." if hasattr(backbone, "masker") else "visual."
    side = backbone.patch
    image = torch.zeros(1, 3, side, side, device=backbone.device, dtype=backbone.dtype)
    called = _called(backbone, lambda: backbone.encode_pixels(image))
    return [name for name in called if name.startswith(trained)]


@torch.no_grad()
def _called(backbone: Backbone, run: Callable[[], object]) -> list[str]:
    """Names of the attention and MLP linears that `run` calls; PEFT's own modules are left out."""
    linears = {
        name: module for name, module in backbone.named_modules() if _is_adaptable(name, module)
    }
    called: set[str] = set()
    with ExitStack() as hooks:
        for name, module in linears.items():
            handle = module.register_forward_hook(lambda *_, name=name: called.add(name))
            hooks.callback(handle.remove)
        run()
    return [name.removesuffix(".base_layer") for name in linears if name in called]


def _is_adaptable(name: str, module: nn.Module) -> bool:
    linear = isinstance(module, nn.Linear) and ".lora_" not in name
    return linear and not PARTS.isdisjoint(name.split("."))
