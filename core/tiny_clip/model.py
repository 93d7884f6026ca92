"""The tiny CLIP as an open_clip model: its vocabulary, its configuration, its folder on disk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.weights import read_weights
from ..errors import TTDError
from ..utils.files import write_text
from ..utils.finite import check_weights
from ..utils.tensors.tensor_files import save_safetensors

# The mean and standard deviation of CLIP's preprocessing, so that nothing about the tiny model is
# special.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def write_vocabulary(path: Path, words: set[str], first: int) -> int:
    """Cut CLIP's byte-pair vocabulary down to its `first` merges and all that `words` need.

    Returns the size of the vocabulary. The merges keep their order, so every word of the world and
    every common English word is split as CLIP splits it. A table of 49,408 rows would cost as much
    to train as both towers. Same input, same bytes.
    """
    import open_clip
    from open_clip.tokenizer import default_bpe

    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode("utf-8").split("\n")
    header, merges = lines[0], lines[1 : 49152 - 256 - 2 + 1]
    full = open_clip.SimpleTokenizer()
    needed = {full.decoder[token] for word in words for token in full.encode(word)}
    by_result = {"".join(merge.split()): merge for merge in reversed(merges)}
    keep, open_ends = set(merges[:first]), list(needed)
    while open_ends:  # a merge needs the two pieces it joins
        merge = by_result.get(open_ends.pop())
        if merge is not None and merge not in keep:
            keep.add(merge)
            open_ends += merge.split()
    chosen = [merge for merge in merges if merge in keep]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join([header, *chosen]).encode("utf-8"), mtime=0))
    return 512 + len(chosen) + 2


def model_config(
    size: int, vocab_size: int, shape: Mapping[str, int], pool: str = "avg"
) -> dict[str, Any]:
    """open_clip's `model_cfg` for images of `size` pixels.

    shape: embed_dim, patch, width, layers, text_width, text_layers, context. pool: `avg` or `tok`.
    """
    vision = {
        "image_size": size,
        "layers": shape["layers"],
        "width": shape["width"],
        "head_width": 64,
        "patch_size": shape["patch"],
        "pool_type": pool,
    }
    text = {
        "context_length": shape["context"],
        "vocab_size": vocab_size,
        "width": shape["text_width"],
        "heads": shape["text_width"] // 64,
        "layers": shape["text_layers"],
    }
    return {"embed_dim": shape["embed_dim"], "vision_cfg": vision, "text_cfg": text}


class KeepTokens(nn.Module):
    """Stands where open_clip drops patches at random: keeps the tokens `index` [k] of [B, N, D].

    None keeps all.
    """

    index: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, k, D]."""
        return x if self.index is None else x[:, self.index]


def build(config: Mapping[str, Any]) -> Any:
    """A fresh open_clip CLIP of `model_config`, with `KeepTokens` in its image tower."""
    from open_clip.model import CLIP

    model = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    model.visual.patch_dropout = KeepTokens()
    return model


def load_weights(model: nn.Module, folder: Path) -> None:
    """Start from the weights in a model's folder. TTDError: none there, or of another shape."""
    state = read_weights(folder / "open_clip_model.safetensors")
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise TTDError(f"{folder}: a model of other sizes or another vocabulary") from None


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors [...] by name as a safetensors file in float16; shapes stay."""
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in state.items()}
    check_weights(half, path)
    save_safetensors(half, path, {"format": "pt"})


def write_config(folder: Path, config: Mapping[str, Any], ttd: Mapping[str, Any]) -> None:
    """Write open_clip_config.json of a `model_config`, with our `ttd` section (head, mask)."""
    preprocess = {"mean": MEAN, "std": STD}
    update_config(folder, {"model_cfg": config, "preprocess_cfg": preprocess, "ttd": ttd})


def read_config(folder: Path) -> dict[str, Any]:
    """open_clip_config.json of a model's folder. TTDError when it is not there."""
    path = folder / "open_clip_config.json"
    if not path.is_file():
        raise TTDError(f"no model in {folder}: open_clip_config.json is missing")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def update_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write open_clip_config.json as it is given."""
    write_text(folder / "open_clip_config.json", json.dumps(config, indent=2) + "\n")
