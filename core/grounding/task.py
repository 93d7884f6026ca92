"""Grounding as a training task: CLIP-VG's encoder on frozen towers, L1 + GIoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..backbones.base import Backbone
from ..data.grounding import PhraseList
from ..data.grounding_view import training_view
from ..data.inputs.sources import phrase_sources
from ..data.inputs.table import Inputs
from ..training.config import identity
from ..training.distributed import Ranks
from ..training.optimizer import muon
from ..training.task import Group, Step, Task
from ..utils.files import expanded
from ..utils.provenance import seed_everything
from .batches import Asked, Batch, PhraseSource, SeenPhrase, asked_text, collate
from .config import ModelConfig
from .features import FeatureCache, cache_file, distinct_images, fit_maps, prepare
from .losses import attention_loss, box_iou, box_losses
from .model import TABLE, UNUSED, GroundingModel, model_config
from .run_config import GroundingConfig, learning_rate
from .weights.checkpoint import load_model, save_model
from .weights.state import load_own_state

OPTIMIZERS: dict[str, Any] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


class GroundingTask(Task[Asked, SeenPhrase, Batch]):
    """Trains a fresh encoder (or `init`'s) on a backbone's frozen towers."""

    config: GroundingConfig
    unit = "phrases"
    product = "model"
    advice = "a lower --lr, or some --warmup steps"
    memory_advice = "a larger --grad-accum-steps, or a smaller --batch"

    def __init__(
        self,
        config: GroundingConfig,
        backbone: Backbone,
        train: Sequence[PhraseList],
        val: Sequence[PhraseList] = (),
        cached: Sequence[PhraseList] | None = None,
    ):
        """backbone: float32; train, val: lists of phrases; without `val` the last model is kept.

        cached: the lists whose images `config.cache` holds, where several runs share it.

        TTDError: settings that do not fit the backbone.
        """
        super().__init__(config, backbone.device)
        self._source = PhraseSource(train)
        self._val = [phrase for part in val for phrase in part.phrases][: config.eval_limit]
        self.evaluates = bool(self._val)
        self._checksum = backbone.checksum
        start = load_model(config.init, config.arch, "cpu") if config.init else None
        size = self._sizes(backbone, start)
        seed_everything(config.seed)
        model = GroundingModel(backbone, size, config.train_visual_pos)
        self.model = model.to(backbone.device).train()
        self._begin(start)
        self._features = self._open_features(cached or train)
        # Nothing uses it: it would get no gradient.
        self._parameters = {
            name: value
            for name, value in self.model.trained_parameters().items()
            if name not in UNUSED
        }

    def _sizes(self, backbone: Backbone, start: GroundingModel | None) -> ModelConfig:
        """The settings' sizes; how tokens enter the encoder is the starting model's, if any."""
        size = sizes(self.config, backbone)
        if start is not None:
            told = start.config
            return replace(size, whiten=told.whiten, input_positions=told.input_positions)
        return size

    def _begin(self, start: GroundingModel | None) -> None:
        """The model's first values: those of `start`, else measured maps and chosen positions."""
        if start is not None and self.config.init:
            load_own_state(self.model, start.own_state(), self.config.init)
            return
        self._fit_maps()
        if self.config.position_start == "sines":
            self.model.set_sines()

    def _fit_maps(self) -> None:
        phrases = self._source.phrases
        fit_maps(self.model, phrases, [asked_text(p.text, self.config.prompt) for p in phrases])

    def _open_features(self, lists: Sequence[PhraseList]) -> FeatureCache | None:
        """The features of the lists' images, computed where they are not on disk yet."""
        if self.config.cache is None:
            return None
        source = PhraseSource(lists)
        images = distinct_images(source.phrases)
        folder = expanded(self.config.cache)
        path = cache_file(folder, self.model, self._checksum, source.digest)
        prepare(path, self.model, images, trust=self.config.trust_inputs)
        return FeatureCache(path, images)

    @property
    def source(self) -> PhraseSource:
        """The training phrases."""
        return self._source

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Projections, tokens, encoder, head, and the image position table, by published names."""
        return self._parameters

    def groups(self, step: int) -> list[Group]:
        """One group: weight decay on everything, as published; for Muon the matrices apart."""
        rate = learning_rate(step, self.config, self.schedule_start)
        decay = self.config.weight_decay
        if self.config.optimizer != "muon":
            return [Group("all", tuple(self._parameters), rate, decay)]
        matrices = tuple(name for name in self._parameters if is_inner_matrix(name))
        rest = tuple(name for name in self._parameters if not is_inner_matrix(name))
        return [Group("matrices", matrices, rate, decay), Group("rest", rest, rate, decay)]

    def optimizers(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        """The optimizer of the settings; SGD with momentum 0.9; beside Muon AdamW."""
        if self.config.optimizer == "muon":
            matrices, rest = groups
            # The rate then means what it means for AdamW.
            inner = muon([matrices], adjust_lr_fn="match_rms_adamw")
            return [inner, torch.optim.AdamW([rest])]
        extra = {"momentum": 0.9} if self.config.optimizer == "sgd" else {}
        return [OPTIMIZERS[self.config.optimizer](groups, **extra)]

    def transform(self, raw: Asked, step: int, rng: np.random.Generator) -> SeenPhrase:
        """The image on its canvas; the phrase in its prompt, lower case."""
        text = asked_text(raw.phrase.text, self.config.prompt)
        size, how = self.model.config.image_size, self.config.augmentation
        seen = training_view(raw.image, np.array(raw.phrase.box), text, size, how, rng)
        states = self._features[raw.phrase.image] if self._features else None
        return SeenPhrase(seen, text, states)

    def collate(self, samples: Sequence[SeenPhrase], step: int) -> Batch:
        """Stack images, padding and boxes."""
        return collate(samples)

    def loss(self, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
        """L1 + GIoU (+ attention) of images [B, 3, S, S]; its parts, accuracy and mean IoU."""
        model, device = self.model, self.device
        tokens = model.backbone.tokenize(batch.texts)[:, : model.config.context]
        target = batch.boxes.to(device)
        images, ignored = batch.images.to(device), batch.ignored.to(device)
        states = None if batch.states is None else batch.states.to(device)
        looks = self.config.attention_loss > 0
        if self.config.encoder_autocast:
            # In bfloat16 the CPU's fused attention is slow backward: a step takes 1.4 times longer.
            plain = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
            with step.autocast(), plain:
                found = model.attend(images, ignored, tokens, states=states, weights=looks)
        else:
            found = model.attend(images, ignored, tokens, step.autocast, states, weights=looks)
        boxes, attention = found[0].float(), found[1]
        losses = box_losses(boxes, target)
        loss = losses.pop("loss")
        if attention is not None:
            losses["attention"] = attention_loss(attention.float(), target)
            loss = loss + self.config.attention_loss * losses["attention"]
        ious = box_iou(boxes.detach(), target)
        shown = {"iou": ious.mean(), "accuracy": (ious >= 0.5).float().mean()}
        return loss, {**{name: value.detach() for name, value in losses.items()}, **shown}

    def evaluate(self, ranks: Ranks) -> Mapping[str, float]:
        """Acc@0.5 and the other scores on the evaluation split, shared among the processes."""
        from .locate import locate_sharded, scores_of
        from .predict import Grounder

        training = self.model.training
        grounder = Grounder(self.model, self.config.prompt)
        try:
            found = locate_sharded(grounder, self._val, ranks, self.config.eval_batch)
        finally:
            self.model.train(training)
        return scores_of(found)

    def score(self, scores: Mapping[str, float]) -> float:
        """Acc@0.5, as CLIP-VG chooses; between equals the mean IoU."""
        return scores["acc@0.5"] + 1e-3 * scores["miou"]

    def export(self, path: Path, step: int) -> None:
        """Our .safetensors: what was trained, the settings, the backbone's checksum."""
        info = {"step": step, "prompt": self.config.prompt, "settings": identity(self.config)}
        save_model(self.model, path, self._checksum, info)

    def inputs(self) -> Inputs:
        """Training and validation phrases."""
        sources = phrase_sources([*self._source.phrases, *self._val])
        return Inputs(sources, trust=self.config.trust_inputs)

    def identity(self) -> dict[str, Any]:
        """Settings, phrases and backbone."""
        return {**super().identity(), "backbone": self._checksum}

    def agreement(self) -> Any:
        """Phrases and backbone."""
        return self.source.digest, self._checksum

    def describe(self) -> list[str]:
        """Backbone and encoder."""
        config, count = self.model.config, sum(p.numel() for p in self._parameters.values())
        return [
            f"{self.model.backbone.arch}, blocks {list(config.blocks)}; encoder of {config.layers} "
            f"layers, width {config.hidden}; {count:,} parameters trained; "
            f"{len(self._val):,} phrases to evaluate on"
        ]


def is_inner_matrix(name: str) -> bool:
    """Whether a published name is that of a linear between two widths, which Muon is made for.

    Not the tables, and not the head's last layer, which gives the four numbers of a box.
    """
    tables = ("reg_token", "vl_pos_embed", TABLE, "bbox_embed.layers.2")
    is_matrix = name.endswith("weight") and "norm" not in name
    return is_matrix and not name.startswith(tables)


def sizes(config: GroundingConfig, backbone: Backbone) -> ModelConfig:
    """The model's sizes: those given, else the backbone's."""
    given = {"image_size": config.image, "context": config.context, "hidden": config.hidden}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if config.blocks is not None:
        changes["blocks"] = config.blocks
    for name in ("heads", "layers", "feedforward", "dropout", "whiten", "input_positions"):
        changes[name] = getattr(config, name)
    return model_config(backbone, **changes)
