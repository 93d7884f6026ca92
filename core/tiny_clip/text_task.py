"""The tiny CLIP's second stage: its text tower alone learns from noisy captions.

Captions of the web name the main thing reliably and the rest loosely. A text tower that learns from
such captions trusts their first name: the single-tag bias that TTD mends. With the images encoded
once, a step costs the text tower only, so this takes minutes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..backbones import load_backbone
from ..backbones.base import Backbone
from ..errors import TTDError
from ..training.losses import info_nce
from ..training.task import Group, Step, Task
from .config import TextStageConfig
from .data import MemorySource, WorldPair, load_pairs
from .model import save_weights

ENCODED = 100  # images in one forward pass
FILES = ("bpe.txt.gz", "open_clip_config.json")


@dataclass(frozen=True)
class Batch:
    """Embeddings of images [B, D], L2-normalized, and their captions."""

    pooled: Tensor
    captions: list[str]


class TextTask(Task[WorldPair, WorldPair, Batch]):
    """The text tower of an open_clip folder, against its own image tower, which stands still."""

    config: TextStageConfig
    exact_micro_batches = False
    why_inexact = "InfoNCE compares all pairs of a batch"

    def __init__(self, config: TextStageConfig, device: torch.device):
        """Load the model and encode the images. TTDError: no such model, no training pairs."""
        super().__init__(config, device)
        images, texts = load_pairs(Path(config.world))
        backbone = load_backbone(f"local-dir:{config.model}", device=str(device))
        self.backbone = backbone.requires_grad_(False)
        pooled = encode_images(backbone, images[: config.pairs])
        self._source = MemorySource(pooled, texts, f"{config.world}: {len(pooled):,} images")
        self._whole = load_file(Path(config.model) / "open_clip_model.safetensors")
        _check_names(self._whole, openclip_text_names(backbone), config.model)
        backbone.text.requires_grad_(True)
        self._parameters = dict(backbone.text.named_parameters())

    @property
    def source(self) -> MemorySource:
        """Pooled embeddings [N, D] and captions."""
        return self._source

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The text tower's."""
        return self._parameters

    def groups(self, step: int) -> list[Group]:
        """One; linear warm-up, constant, linear decay over the last 70 % of the steps."""
        config = self.config
        left = (config.steps - step) / (0.7 * config.steps)
        rate = config.lr * min(1.0, (step + 1) / max(1, config.warmup), left)
        return [Group("text", tuple(self._parameters), rate, config.weight_decay)]

    def optimizers(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        """AdamW with CLIP's second moment."""
        return [torch.optim.AdamW(groups, betas=(0.9, 0.98))]

    def transform(self, raw: WorldPair, step: int, rng: np.random.Generator) -> WorldPair:
        """As it is."""
        return raw

    def collate(self, samples: Sequence[WorldPair], step: int) -> Batch:
        """Stack the embeddings."""
        pooled = torch.stack([sample.image for sample in samples])
        return Batch(pooled, [sample.text for sample in samples])

    def loss(self, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
        """InfoNCE over the pairs of all processes, a scalar; nothing else is logged.

        batch: B captions, pooled image embeddings [B, D] of unit length.
        """
        with step.autocast():
            encoded = self.backbone.encode_text(batch.captions)
        captions = step.ranks.all_gather(F.normalize(encoded.float(), dim=-1))
        pooled = step.ranks.all_gather(batch.pooled.to(self.device))
        return info_nce(pooled, captions, self.backbone.logit_scale), {}

    def export(self, path: Path, step: int) -> None:
        """The whole model with the new text tower, by open_clip's names, in float16."""
        save_weights(self._whole | openclip_text_names(self.backbone), path)

    def finish(self, finished: Path) -> None:
        """The first stage's configuration and vocabulary, beside the weights."""
        for name in FILES:
            source, out = Path(self.config.model) / name, finished.parent / name
            if source.resolve() != out.resolve():
                shutil.copyfile(source, out)

    def identity(self) -> dict[str, Any]:
        """Settings, pairs, and the first stage's weights: `model` is only where they are."""
        settings = super().identity()
        settings.pop("model")
        return {**settings, "base": self.agreement()}

    def agreement(self) -> Any:
        """The pairs as the first stage's image tower sees them."""
        return self.source.digest


@torch.no_grad()
def encode_images(backbone: Backbone, images: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] -> pooled embeddings [N, D] of unit length, on the CPU."""
    parts = [
        backbone.encode_image(backbone.normalize(part.float() / 255)).cpu()
        for part in torch.split(images, ENCODED)
    ]
    return F.normalize(torch.cat(parts).float(), dim=-1)


def openclip_text_names(backbone: Backbone) -> dict[str, Tensor]:
    """The text tower's tensors by open_clip's names: q, k, v packed as it packs them.

    Three weights [C, C] become one [3C, C], three biases [C] one [3C]; other shapes stay.
    """
    state = dict(backbone.text.state_dict())
    packed = {}
    for kind in ("weight", "bias"):
        for i in range(len(backbone.text.blocks)):
            parts = [state.pop(f"blocks.{i}.attn.{name}_proj.{kind}") for name in "qkv"]
            packed[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = torch.cat(parts)
    plain = {"projection.weight": "text_projection"}
    for name, value in state.items():
        packed[plain.get(name, name.replace("blocks.", "transformer.resblocks."))] = value
    return packed


def _check_names(whole: Mapping[str, Tensor], text: Mapping[str, Tensor], source: str) -> None:
    """TTDError unless the file holds the text tower's tensors in these shapes."""
    shapes = {name: value.shape for name, value in whole.items()}
    wrong = [name for name, value in text.items() if shapes.get(name) != value.shape]
    if wrong:
        raise TTDError(f"{source}: its text tower is not open_clip's ({', '.join(wrong[:3])})")
