"""The student's and the teacher's view of a batch, the loss, the EMA.

There is one set of modules. The teacher is the same backbone with its adapter passed by (`frozen`)
or its values swapped for their EMA (`ema`), so a teacher costs a forward pass and a few MB, never
a second model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..backbones.lora.adapter import (
    adapter_disabled,
    adapter_parameters,
    adapter_share,
    adapter_swapped,
)
from ..errors import TTDError
from ..refine.pamr import PAMR
from ..training.task import Step
from .calibration import Calibration
from .collapse import map_statistics
from .config import DistillConfig
from .embedding import Embedded, TextBatch, embed, gather_texts
from .loss import ttd_loss

PARTS = ("distill", "tag", "ranking", "anchor")  # of the loss, as they are logged


@dataclass(frozen=True)
class Distilled:
    """A batch's loss with its graph, and what is logged of it: scalars without graph."""

    total: Tensor
    values: dict[str, Tensor]


class Distiller:
    """A backbone with an adapter, and its teacher. `average`: the EMA; None for other teachers."""

    def __init__(
        self,
        backbone: Backbone,
        config: DistillConfig,
        pamr: PAMR | None = None,
        calibration: Calibration | None = None,
    ):
        """pamr: the run's own, which knows how many images there will be.

        calibration: what selects words, where the settings ask for it. TTDError: they do, and
        there is none.
        """
        self.backbone, self.config, self.pamr = backbone, config, pamr
        if config.calibrated and calibration is None:
            raise TTDError("selection 'calibrated' needs a calibration")
        self.calibration = calibration
        self.parameters = adapter_parameters(backbone)
        self.average: dict[str, Tensor] | None = None
        if config.teacher == "ema":
            self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    def distill(
        self, images: Tensor, captions: list[str], step: Step, others: Sequence[str] = ()
    ) -> Distilled:
        """The loss of B images [B, 3, H, W] in [0, 1] and their captions.

        others: words of other captions, which `rank_weight` needs. TTDError without them.

        The towers run under the step's autocast; adapter, maps and loss are float32 always.
        """
        texts = gather_texts(captions, others)
        images = self.backbone.normalize(images.to(self.backbone.device))
        # The teachers first: the student's graph must see the student's values.
        teacher, base = self._teachers(images, texts, step)
        contrastive = self.config.anchor == "contrastive"
        selects = self.config.needs_pooled and teacher is None
        student = self._embed(images, texts, selects or contrastive, step)
        chosen = None
        if self.calibration is not None and base is not None:
            seen = self._at(images, self.calibration.side, base, texts, step)
            chosen = self.calibration.choose(seen, texts, self.config.stopwords)
        losses = ttd_loss(
            student,
            texts,
            self.config,
            (self.backbone.mask_scale, self.backbone.mask_bias),
            teacher=teacher,
            base=base,
            everyone=_gathered(student, step) if contrastive else None,
            choice=chosen,
            logit_scale=self.backbone.logit_scale,
            images=images,
            pamr=self.pamr,
        )
        alive = map_statistics(losses.maps, losses.targets.selected, texts)
        parts = {name: getattr(losses, name) for name in PARTS}
        values = {**parts, **vars(alive)}
        return Distilled(losses.total, {name: value.detach() for name, value in values.items()})

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the EMA towards the adapter: old * decay + new * (1 - decay), if there is one."""
        if self.average is not None:
            for name, value in self.parameters.items():
                self.average[name].lerp_(value.detach(), 1 - self.config.ema_decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor], average: Mapping[str, Tensor] | None) -> None:
        """Take over the adapter's values, and the EMA's.

        values, average: [r, in] and [out, r] by the names of `parameters`.
        """
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
            if self.average is not None and average is not None:
                self.average[name].copy_(average[name])

    @torch.no_grad()
    def _at(
        self, images: Tensor, side: int, base: Embedded, texts: TextBatch, step: Step
    ) -> Embedded:
        """The base's embeddings of the images at another size; `base` where that is theirs."""
        if images.shape[-1] == side:
            return base
        resized = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        with adapter_disabled(self.backbone):
            return self._embed(resized, texts, True, step)

    def _embed(self, images: Tensor, texts: TextBatch, pooled: bool, step: Step) -> Embedded:
        with step.autocast():
            return embed(self.backbone, images, texts, pooled)

    @torch.no_grad()
    def _teachers(
        self, images: Tensor, texts: TextBatch, step: Step
    ) -> tuple[Embedded | None, Embedded | None]:
        """The teacher (None: the student itself), and the base (None where nothing needs it)."""
        teacher = base = None
        config, frozen = self.config, self.config.teacher == "frozen"
        if frozen or config.calibrated or config.anchor == "frozen":
            pooled = config.calibrated or (frozen and config.needs_pooled)
            with adapter_disabled(self.backbone):
                base = self._embed(images, texts, pooled, step)
        if frozen:
            teacher = base
        elif self.average is not None:
            with adapter_swapped(self.backbone, adapter_share(self.average, config.ema_share)):
                teacher = self._embed(images, texts, self.config.needs_pooled, step)
        return teacher, base


def _gathered(student: Embedded, step: Step) -> tuple[Tensor, Tensor] | None:
    """Pooled images and captions [N, D] of all processes, with gradients."""
    if student.pooled is None:
        return None
    return step.ranks.all_gather(student.pooled), step.ranks.all_gather(student.captions)
