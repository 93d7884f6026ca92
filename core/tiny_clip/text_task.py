"""The tiny CLIP's second stage: its text tower alone learns from noisy captions; the image tower stands still.

Captions of the web name the main thing reliably and the rest loosely. A text tower that learns from
such captions trusts their first name: the single-tag bias that TTD mends. With the images encoded
once, a step costs the text tower only, so this takes minutes.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..backbones import load_backbone
from ..backbones.base import Backbone
from ..backbones.device import use_threads
from ..errors import TTDError
from ..utils.provenance import seed_everything
from .data import batch_indices, load_pairs
from .task import info_nce

ENCODED = 100  # images in one forward pass
FILES = ("bpe.txt.gz", "open_clip_config.json")


@dataclass(frozen=True)
class TextStageConfig:
    """One YAML key each; configs/tiny_clip_text.yaml explains them."""

    model: str
    world: str
    out: str
    seed: int
    threads: int
    pairs: int
    batch: int
    steps: int
    lr: float
    warmup: int
    weight_decay: float


def load_config(values: dict, source: str) -> TextStageConfig:
    """A `TextStageConfig` from a YAML mapping. TTDError for unknown, missing or wrongly typed keys."""
    known = {f.name: f.type for f in fields(TextStageConfig)}
    unknown, missing = sorted(set(values) - set(known)), sorted(set(known) - set(values))
    wrong = [name for name in set(known) & set(values) if type(values[name]) is not known[name]]
    if unknown or missing or wrong:
        raise TTDError(
            f"{source}: unknown keys {unknown}, missing keys {missing}, values of another type {wrong}"
        )
    return TextStageConfig(**values)


def train_text_tower(
    config: TextStageConfig,
    log: Callable[[dict], None] = lambda record: None,
    progress: Callable[[int], None] = lambda step: None,
) -> Path:
    """Train the text tower of the open_clip folder `config.model` and write a model of the same form into `config.out`.

    Deterministic, not resumable. `progress` is called after every step, `log` of every 50th. Raises
    TTDError where there is no such model or no training pairs. Returns the folder.
    """
    use_threads(config.threads)
    seed_everything(config.seed)
    images, texts = load_pairs(Path(config.world))
    backbone = load_backbone(f"local-dir:{config.model}").requires_grad_(False)
    pooled = encode_pictures(backbone, images[: config.pairs])
    parameters = list(backbone.text.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    scale = torch.tensor(backbone.logit_scale)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(
                1.0, (step + 1) / config.warmup, (config.steps - step) / (0.7 * config.steps)
            )
        index = batch_indices(len(pooled), config.batch, step, config.seed)
        captions = F.normalize(backbone.encode_text([texts[i] for i in index.tolist()]), dim=-1)
        loss = info_nce(pooled[index], captions, scale)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        progress(step + 1)
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            log({"stage": "text", "step": step + 1, "loss": float(loss.detach())})
    return _write(backbone, Path(config.model), Path(config.out))


@torch.no_grad()
def encode_pictures(backbone: Backbone, images: Tensor) -> Tensor:
    """uint8 [N,3,H,W] -> pooled embeddings [N,D] of unit length."""
    parts = [
        backbone.encode_image(backbone.normalize(part.float() / 255))
        for part in images.split(ENCODED)
    ]
    return F.normalize(torch.cat(parts).float(), dim=-1)


def openclip_text_names(backbone: Backbone) -> dict[str, Tensor]:
    """The text tower's tensors by open_clip's names: q, k, v packed as it packs them."""
    state, packed = dict(backbone.text.state_dict()), {}
    for kind in ("weight", "bias"):
        for i in range(len(backbone.text.blocks)):
            parts = [state.pop(f"blocks.{i}.attn.{name}_proj.{kind}") for name in "qkv"]
            packed[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = torch.cat(parts)
    plain = {"projection.weight": "text_projection"}
    names = {
        name: plain.get(name, name.replace("blocks.", "transformer.resblocks.")) for name in state
    }
    return packed | {names[name]: value for name, value in state.items()}


def _write(backbone: Backbone, source: Path, out: Path) -> Path:
    """The source's model with the new text tower, in fp16."""
    whole = load_file(source / "open_clip_model.safetensors")
    new = openclip_text_names(backbone)
    strange = [
        name for name, value in new.items() if name not in whole or whole[name].shape != value.shape
    ]
    if strange:
        raise TTDError(f"{source}: its text tower is not open_clip's ({', '.join(strange[:3])})")
    out.mkdir(parents=True, exist_ok=True)
    state = whole | {
        name: value.detach().to(torch.float16).contiguous() for name, value in new.items()
    }
    save_file(state, out / "open_clip_model.safetensors", metadata={"format": "pt"})
    for name in FILES:
        if (source / name).resolve() != (out / name).resolve():
            shutil.copyfile(source / name, out / name)
    return out
