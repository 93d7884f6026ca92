"""Writes a small SigLIP's weights as big_vision's `.npz`, in Flax's names and layouts."""

from pathlib import Path

import numpy as np
import torch


def write_big_vision(state: dict[str, torch.Tensor], path: Path, heads: dict[str, int]) -> Path:
    """state: by open_clip's names; heads: of "img" and "txt" towers."""
    arrays = {name: value.detach().numpy() for name, value in state.items()}
    out = {"params/b": arrays["logit_bias"][None], "params/t": arrays["logit_scale"][None]}
    _image(arrays, out, heads["img"])
    _text(arrays, out, heads["txt"])
    np.savez(path, **out)
    return path


def _image(arrays: dict, out: dict, heads: int) -> None:
    trunk, place = "visual.trunk.", "params/img/"
    kernel = arrays[f"{trunk}patch_embed.proj.weight"]
    out[f"{place}embedding/kernel"] = kernel.transpose(2, 3, 1, 0)
    out[f"{place}embedding/bias"] = arrays[f"{trunk}patch_embed.proj.bias"]
    out[f"{place}pos_embedding"] = arrays[f"{trunk}pos_embed"]
    _norm(arrays, out, f"{trunk}norm", f"{place}Transformer/encoder_norm")
    for i in range(_blocks(arrays, f"{trunk}blocks.")):
        own, block = f"{trunk}blocks.{i}.", f"{place}Transformer/encoderblock_{i}/"
        packed = [np.split(arrays[f"{own}attn.qkv.{kind}"], 3) for kind in ("weight", "bias")]
        _attention(out, f"{block}MultiHeadDotProductAttention_0/", packed, heads)
        _output(arrays, out, f"{own}attn.proj", f"{block}MultiHeadDotProductAttention_0/", heads)
        _rest(arrays, out, own, block, ("norm1", "norm2", "mlp.fc1", "mlp.fc2"))
    pool, head = f"{trunk}attn_pool.", f"{place}MAPHead_0/"
    out[f"{head}probe"] = arrays[f"{pool}latent"]
    packed = [
        [arrays[f"{pool}q.{kind}"], *np.split(arrays[f"{pool}kv.{kind}"], 2)]
        for kind in ("weight", "bias")
    ]
    _attention(out, f"{head}MultiHeadDotProductAttention_0/", packed, heads)
    _output(arrays, out, f"{pool}proj", f"{head}MultiHeadDotProductAttention_0/", heads)
    _norm(arrays, out, f"{pool}norm", f"{head}LayerNorm_0")
    _dense(arrays, out, f"{pool}mlp.fc1", f"{head}MlpBlock_0/Dense_0")
    _dense(arrays, out, f"{pool}mlp.fc2", f"{head}MlpBlock_0/Dense_1")


def _text(arrays: dict, out: dict, heads: int) -> None:
    place = "params/txt/"
    out[f"{place}Embed_0/embedding"] = arrays["text.token_embedding.weight"]
    out[f"{place}pos_embedding"] = arrays["text.positional_embedding"][None]
    _norm(arrays, out, "text.ln_final", f"{place}Encoder_0/encoder_norm")
    _dense(arrays, out, "text.text_projection", f"{place}head")
    for i in range(_blocks(arrays, "text.transformer.resblocks.")):
        own, block = f"text.transformer.resblocks.{i}.", f"{place}Encoder_0/encoderblock_{i}/"
        packed = [np.split(arrays[f"{own}attn.in_proj_{kind}"], 3) for kind in ("weight", "bias")]
        _attention(out, f"{block}MultiHeadDotProductAttention_0/", packed, heads)
        _output(
            arrays, out, f"{own}attn.out_proj", f"{block}MultiHeadDotProductAttention_0/", heads
        )
        _rest(arrays, out, own, block, ("ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj"))


def _blocks(arrays: dict, prefix: str) -> int:
    return 1 + max(
        int(k.removeprefix(prefix).split(".")[0]) for k in arrays if k.startswith(prefix)
    )


def _norm(arrays: dict, out: dict, own: str, name: str) -> None:
    out[f"{name}/scale"], out[f"{name}/bias"] = arrays[f"{own}.weight"], arrays[f"{own}.bias"]


def _dense(arrays: dict, out: dict, own: str, name: str) -> None:
    out[f"{name}/kernel"], out[f"{name}/bias"] = arrays[f"{own}.weight"].T, arrays[f"{own}.bias"]


def _rest(arrays: dict, out: dict, own: str, block: str, names: tuple) -> None:
    """Norms and MLP of a block."""
    for i in (0, 1):
        _norm(arrays, out, own + names[i], f"{block}LayerNorm_{i}")
        _dense(arrays, out, own + names[2 + i], f"{block}MlpBlock_0/Dense_{i}")


def _attention(out: dict, name: str, packed: list, heads: int) -> None:
    for part, weight, bias in zip(("query", "key", "value"), *packed, strict=True):
        out[f"{name}{part}/kernel"] = weight.T.reshape(len(weight), heads, -1)
        out[f"{name}{part}/bias"] = bias.reshape(heads, -1)


def _output(arrays: dict, out: dict, own: str, name: str, heads: int) -> None:
    weight = arrays[f"{own}.weight"]
    out[f"{name}out/kernel"] = weight.T.reshape(heads, -1, len(weight))
    out[f"{name}out/bias"] = arrays[f"{own}.bias"]
