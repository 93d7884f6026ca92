"""The tiny CLIP's first stage as a training task: from scratch, with InfoNCE, on the world."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..data.words import split_words
from ..training.losses import info_nce
from ..training.optimizer import muon
from ..training.task import Group, Step, Task
from ..utils.provenance import seed_everything
from .config import PretrainConfig
from .data import MemorySource, WorldPair, load_pairs, random_crops, random_span, shrink
from .model import (
    MEAN,
    STD,
    build,
    load_weights,
    model_config,
    save_weights,
    write_config,
    write_vocabulary,
)
from .patch_nouns import noun_maps, patch_loss, patch_nouns

VOCABULARY = "bpe.txt.gz"
SHAPE = ("embed_dim", "patch", "width", "layers", "text_width", "text_layers", "context")


@dataclass(frozen=True)
class Seen:
    """A pair and its draws: image uint8 [3, S, S], caption or a span of it, draws [4] in [0, 1).

    nouns: as of `WorldPair`.
    """

    image: Tensor
    text: str
    draws: Tensor
    nouns: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Normalized crops [B, 3, S, S], tokens [B, L], image tokens to keep [k] (None: all).

    nouns: of the image tokens but the first, long [B, k - 1]; None where they are not asked for.
    """

    images: Tensor
    tokens: Tensor
    keep: Tensor | None
    nouns: Tensor | None = None


class PretrainTask(Task[WorldPair, Seen, Batch]):
    """A small open_clip CLIP, Muon on its blocks' matrices, AdamW on the rest."""

    config: PretrainConfig
    exact_micro_batches = False
    why_inexact = "InfoNCE compares all pairs of a batch"

    def __init__(
        self,
        config: PretrainConfig,
        device: torch.device,
        drawing: Callable[[int], None] = lambda done: None,
    ):
        """Load the world, cut the vocabulary, draw the weights by the seed. TTDError: no world.

        drawing: called with the number of images whose nouns are drawn, where patch_weight wants
        them.
        """
        super().__init__(config, device)
        images, texts = load_pairs(Path(config.world))
        nouns, count = None, 0
        if config.patch_weight:
            nouns, count = noun_maps(Path(config.world), texts, images.shape[-1], drawing)
        what = f"{config.world}: {len(images):,} images"
        self._source = MemorySource(images, texts, what, nouns)
        self._make_tokenizer(texts)
        shape = {name: getattr(config, name) for name in SHAPE}
        self.architecture = model_config(images.shape[-1], self._size, shape, config.pool)
        seed_everything(config.seed)
        self.model = build(self.architecture).to(device).train()
        self.model.visual.output_tokens = True
        self._probe: nn.Linear | None = None
        if nouns is not None:
            self._probe = nn.Linear(config.embed_dim, count, device=device)
        if config.init:
            load_weights(self.model, Path(config.init))
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(config.encoders == "both" or name.startswith("visual."))
        self._mean, self._std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))

    def _make_tokenizer(self, texts: Sequence[str]) -> None:
        """CLIP's vocabulary cut down to what the captions need."""
        import open_clip

        words = {word.text.casefold() for text in texts for word in split_words(text)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / VOCABULARY
            self._size = write_vocabulary(path, words, self.config.merges)
            self._vocabulary = path.read_bytes()
            self.tokenizer = open_clip.SimpleTokenizer(
                bpe_path=str(path), context_length=self.config.context
            )

    @property
    def source(self) -> MemorySource:
        """The world's training pairs."""
        return self._source

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """All that are trained."""
        named = dict(self.model.named_parameters())
        if self._probe is not None:
            named |= {f"probe.{name}": value for name, value in self._probe.named_parameters()}
        return {name: value for name, value in named.items() if value.requires_grad}

    def groups(self, step: int) -> list[Group]:
        """Tables for AdamW, gains and biases without decay, the blocks' matrices for Muon."""
        config, share = self.config, schedule(step, self.config)
        kinds: dict[str, list[str]] = {"tables": [], "gains": [], "matrices": []}
        for name, parameter in self.parameters().items():
            kinds[_kind(name, parameter)].append(name)
        rates = {"matrices": config.muon_lr}
        decays = {"tables": config.weight_decay, "matrices": config.weight_decay / 10}
        return [
            Group(kind, tuple(names), share * rates.get(kind, config.lr), decays.get(kind, 0.0))
            for kind, names in kinds.items()
        ]

    def optimizers(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        """Muon (steps along the orthogonalised momentum) needs 2.5 times fewer steps than AdamW."""
        tables, gains, matrices = groups
        return [muon([matrices]), torch.optim.AdamW([tables, gains], betas=(0.9, 0.98), eps=1e-6)]

    def transform(self, raw: WorldPair, step: int, rng: np.random.Generator) -> Seen:
        """The caption or a span of it; the crop is drawn here and made in `collate`."""
        draws = rng.random(7)
        text = random_span(raw.text, self.config.span_share, draws[:3].tolist())
        return Seen(raw.image, text, torch.from_numpy(draws[3:]).float(), raw.nouns)

    def collate(self, samples: Sequence[Seen], step: int) -> Batch:
        """Crop, normalize and, before the last `plain_steps`, shrink."""
        config = self.config
        images = torch.stack([sample.image for sample in samples]).float() / 255
        draws = torch.stack([sample.draws for sample in samples], 1)
        images = (random_crops(images, config.crop, draws) - self._mean) / self._std
        keep = None
        if config.small and step < config.steps - config.plain_steps:
            images, keep = shrink(images, config.small, config.patch, self.step_rng(step))
        tokens = self.tokenizer([sample.text for sample in samples])
        return Batch(images, tokens, keep, self._nouns(samples, draws, keep))

    def _nouns(self, samples: Sequence[Seen], draws: Tensor, keep: Tensor | None) -> Tensor | None:
        """The noun of each patch of the crops, long [B, P]; None where they are not asked for.

        draws [4, B], keep [1 + P]: as the images are cropped and shrunk.
        """
        maps = [sample.nouns for sample in samples if sample.nouns is not None]
        if not maps:
            return None
        config, whole = self.config, torch.stack(maps)[:, None].float()
        crops = random_crops(whole, config.crop, draws, mode="nearest")[:, 0]
        side = crops.shape[-1] if keep is None else config.small
        return patch_nouns(crops, side // config.patch)

    def loss(self, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
        """InfoNCE over the pairs of all processes, a scalar, and the patches' nouns where asked.

        The temperature is logged. batch: images [B, 3, H, W], tokens [B, L], nouns [B, P].
        """
        model = self.model
        model.visual.patch_dropout.index = batch.keep
        # The plain attention is 1.3 times faster than the CPU's fused kernel at these lengths.
        with step.autocast(), sdpa_kernel(SDPBackend.MATH):
            pooled, patches = model.visual(batch.images.to(self.device))
            images = F.normalize(pooled, dim=-1)
            texts = model.encode_text(batch.tokens.to(self.device), normalize=True)
            told = self._patch_loss(patches, batch.nouns)
        images = step.ranks.all_gather(images.float())
        texts = step.ranks.all_gather(texts.float())
        scale = model.logit_scale.exp()
        values = {"logit_scale": scale.detach()}
        loss = info_nce(images, texts, scale)
        if told is None:
            return loss, values
        return loss + self.config.patch_weight * told, {**values, "patches": told.detach()}

    def _patch_loss(self, patches: Tensor, nouns: Tensor | None) -> Tensor | None:
        """Of the nouns that the patches show; None where they are not asked for.

        patches [B, P, width], before the projection.
        """
        if self._probe is None or nouns is None:
            return None
        return patch_loss(self._probe(patches @ self.model.visual.proj), nouns.to(self.device))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Keep the temperature within its bounds."""
        self.model.logit_scale.clamp_(0, math.log(self.config.max_logit_scale))

    def export(self, path: Path, step: int) -> None:
        """open_clip's weights in float16."""
        save_weights(self.model.state_dict(), path)

    def finish(self, finished: Path) -> None:
        """open_clip's configuration and the vocabulary, beside the weights."""
        write_config(finished.parent, self.architecture, {"head": self.config.head})
        (finished.parent / VOCABULARY).write_bytes(self._vocabulary)

    def describe(self) -> list[str]:
        """The model's size."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        lines = [f"a CLIP of {count:,} parameters, vocabulary of {self._size:,}"]
        if self._probe is not None:
            weight = self.config.patch_weight
            lines.append(f"{weight:g} x the loss of patches' nouns, by the world's own truth")
        return lines


def schedule(step: int, config: PretrainConfig) -> float:
    """Share of the peak rates: linear warm-up, constant, linear to 0 over `decay_steps`.

    The constant part does not know how long the run will be: `steps` may be changed before the
    decay begins.
    """
    left = (config.steps - step) / max(1, config.decay_steps)
    return min(1.0, (step + 1) / max(1, config.warmup), left)


def _kind(name: str, parameter: nn.Parameter) -> str:
    if parameter.ndim < 2:
        return "gains"
    if parameter.ndim == 2 and ".resblocks." in name:
        return "matrices"
    return "tables"
