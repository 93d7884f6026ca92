"""One part of a training step: the student's and the teacher's view of a batch, the loss, the EMA.

There is one set of modules. The teacher is the same backbone with its adapter passed by (`frozen`)
or its values swapped for their EMA (`ema`), so a teacher costs a forward pass and a few
MB, never a second model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..backbones.lora.adapter import adapter_disabled, adapter_parameters, adapter_swapped
from ..refine.pamr import PAMR
from .loss import DistillConfig, Embedded, TextBatch, embed, gather_texts, map_statistics, ttd_loss

STATISTICS = ("loss", "distill", "tag", "anchor", "spread", "alike", "selected")


@dataclass(frozen=True)
class Part:
    """A batch's loss with its graph, and the numbers of `STATISTICS` as floats [7]."""

    total: Tensor
    statistics: Tensor


class Distiller:
    """A backbone with an adapter, and its teacher. `average` holds the EMA, None for other teachers."""

    def __init__(
        self,
        backbone: Backbone,
        config: DistillConfig,
        dtype: torch.dtype = torch.float32,
        pamr: PAMR | None = None,
    ):
        """dtype: of the towers' matrix products (autocast); adapter, maps and loss are float32 always.

        pamr: the run's own, which knows how many images there will be.
        """
        self.backbone, self.config, self.dtype = backbone, config, dtype
        self.pamr = pamr
        self.parameters = adapter_parameters(backbone)
        self.average = (
            {name: value.detach().clone() for name, value in self.parameters.items()}
            if config.teacher == "ema"
            else None
        )

    def part(self, images: Tensor, captions: list[str]) -> Part:
        """The loss of B images [B,3,H,W] in [0, 1] and their captions."""
        texts = gather_texts(captions)
        images = self.backbone.normalize(images.to(self.backbone.device))
        teacher, base = self._teachers(
            images, texts
        )  # first: the student's graph must see the student's values
        # The whole image's embedding: for whoever chooses the words, and for the anchor that
        # trains it.
        selects = self.config.needs_pooled and teacher is None
        student = self._embed(images, texts, selects or self.config.anchor == "contrastive")
        scale = self.backbone.logit_scale
        mask = (self.backbone.mask_scale, self.backbone.mask_bias)
        losses = ttd_loss(
            student,
            texts,
            self.config,
            mask,
            teacher=teacher,
            base=base,
            logit_scale=scale,
            images=images,
            pamr=self.pamr,
        )
        alive = map_statistics(losses.maps, losses.targets.selected, texts)
        statistics = torch.stack([alive.spread, alive.alike, alive.selected]).float().cpu()
        parts = torch.stack([losses.total, losses.distill, losses.tag, losses.anchor]).detach()
        return Part(losses.total, torch.cat([parts.float().cpu(), statistics]))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the EMA towards the adapter: old * decay + new * (1 - decay). For other teachers: nothing."""
        if self.average is not None:
            for name, value in self.parameters.items():
                self.average[name].lerp_(value.detach(), 1 - self.config.ema_decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor], average: Mapping[str, Tensor] | None) -> None:
        """Take over the adapter's values, and the average's."""
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
            if self.average is not None and average is not None:
                self.average[name].copy_(average[name])

    def _embed(self, images: Tensor, texts: TextBatch, pooled: bool) -> Embedded:
        with self._autocast():
            return embed(self.backbone, images, texts, pooled)

    @torch.no_grad()
    def _teachers(
        self, images: Tensor, texts: TextBatch
    ) -> tuple[Embedded | None, Embedded | None]:
        """Whose maps are the targets (None: the student's own), and the base for the anchor (None: not asked for)."""
        teacher = base = None
        if self.config.teacher == "frozen" or self.config.anchor == "frozen":
            with adapter_disabled(self.backbone):
                base = self._embed(
                    images, texts, self.config.teacher == "frozen" and self.config.needs_pooled
                )
        if self.config.teacher == "frozen":
            teacher = base
        elif self.average is not None:
            with adapter_swapped(self.backbone, self.average):
                teacher = self._embed(images, texts, self.config.needs_pooled)
        return teacher, base

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.backbone.device.type, self.dtype)
