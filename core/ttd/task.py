"""TTD as a training task: LoRA on a frozen backbone, distilled from image-caption pairs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..backbones.lora.adapter import add_adapter, save_adapter
from ..backbones.lora.files import AdapterInfo, read_adapter, write_peft_folder
from ..backbones.lora.targets import lora_targets
from ..data.heldout import heldout_sources
from ..data.inputs.sources import pair_sources
from ..data.inputs.table import Inputs
from ..data.pairs import Pairs
from ..errors import TTDError, UnreadableError
from ..refine.pamr import PAMR
from ..training.config import identity
from ..training.distributed import Ranks
from ..training.sources import Pair, PairSource
from ..training.task import Step, Task
from ..utils.files import is_away
from ..utils.provenance import seed_everything
from .augment import Augmentation, augment
from .calibration import Calibration, calibrate
from .collapse import CollapseMonitor, MapStatistics
from .config import TTDConfig
from .distiller import Distiller

GUARDS = ("pixel_f1", "caption_iou", "word_map_iou")  # reported together: each alone can mislead
# Scores of the held-out set by name, `GUARDS` among them.
Evaluate = Callable[[Backbone], Mapping[str, float]]


@dataclass(frozen=True)
class Seen:
    """A pair as it is seen: image float32 [3, S, S] in [0, 1], not normalized; its caption."""

    image: Tensor
    text: str


@dataclass(frozen=True)
class Batch:
    """B pairs: images float32 [B, 3, S, S] in [0, 1], and their captions.

    others: words of other captions, the same in all parts of a step.
    """

    images: Tensor
    captions: list[str]
    others: list[str]


class TTDTask(Task[Pair, Seen, Batch]):
    """Puts a fresh adapter on a backbone and trains it."""

    config: TTDConfig
    unit = "pairs"
    product = "adapter"
    advice = "a lower --lr or --teacher frozen"
    memory_advice = "a larger --grad-accum-steps, or a smaller --batch or --image"
    gradient_advice = "choose other --lora-targets or --encoders"
    why_inexact = "anchor 'contrastive' compares all captions of a batch"

    def __init__(
        self, config: TTDConfig, backbone: Backbone, pairs: Pairs, evaluate: Evaluate | None = None
    ):
        """backbone: float32, without an adapter; one is drawn by the seed.

        evaluate: scores the backbone on a held-out set; only the first process calls it.
        TTDError: settings that do not fit the model.
        """
        super().__init__(config, backbone.device)
        config = self.config
        self.backbone, self.evaluator = backbone, evaluate
        self.evaluates = evaluate is not None
        self.exact_micro_batches = config.distill.anchor != "contrastive"
        self._source = PairSource(pairs)
        self._view = Augmentation.of(config, backbone)
        pamr = PAMR(pictures=config.steps * config.batch)
        # Before the adapter is there: it knows the base by its checksum.
        self._identity = _identity(config, pairs, backbone, pamr)
        self._info = AdapterInfo.of(backbone, self._identity)
        self._sample: list[int] = []  # pairs of the calibration
        self._calibration = self._calibrate() if config.distill.calibrated else None
        seed_everything(config.seed)  # A of the adapter is drawn
        lora = config.lora
        names = lora_targets(backbone, lora.encoders, lora.targets)
        add_adapter(backbone, names, lora.rank, lora.alpha)
        self.distiller = Distiller(backbone, config.distill, pamr, self._calibration)
        self.monitor = CollapseMonitor()
        self.window = self.monitor.window

    def _calibrate(self) -> Calibration:
        """On pairs that follow from the data alone, seen whole; damaged ones are left out.

        TTDError: one cannot be read now.
        """
        settings, source = self.config.distill, self._source
        count = min(settings.calibration, len(source))
        chosen = np.random.default_rng(0).choice(len(source), count, replace=False)
        view = replace(self._view, hflip=False, crop=1.0)
        images, captions = [], []
        for number in sorted(chosen.tolist()):
            try:
                pair = source.read(number)
            except (TTDError, OSError) as error:
                if is_away(error):  # other processes, and a resumed run, may be able to read it
                    raise UnreadableError(
                        f"{source.where(number)[1]}: cannot be read now, and words are selected by "
                        f"what it shows ({error}); mend that and start again"
                    ) from None
                continue  # the trainer names it when it comes to it
            images.append(augment(pair.image, view, view.size, np.random.default_rng(0)))
            captions.append(pair.text)
            self._sample.append(number)
        return calibrate(self.backbone, images, captions, stopwords=settings.stopwords)

    @property
    def source(self) -> PairSource:
        """The training pairs."""
        return self._source

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The adapter's, by the names of its file."""
        return self.distiller.parameters

    def transform(self, raw: Pair, step: int, rng: np.random.Generator) -> Seen:
        """The image at the step's size, mirrored or not; the caption as it is."""
        side = self._view.side(self.step_rng(step))
        return Seen(augment(raw.image, self._view, side, rng), raw.text)

    def collate(self, samples: Sequence[Seen], step: int) -> Batch:
        """Stack the images; draw the step's words of other captions."""
        images, others = torch.stack([sample.image for sample in samples]), []
        if self._calibration is not None and self.config.distill.rank_weight:
            (rng,) = self.step_rng(step).spawn(1)  # the size of the images is drawn from the other
            others = self._calibration.draw(rng, self.config.distill.rank_words)
        return Batch(images, [sample.text for sample in samples], others)

    def loss(self, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
        """L of core/ttd/loss.py, a scalar, and its parts by name, scalars too.

        batch: images [B, 3, H, W] and B captions.
        """
        distilled = self.distiller.distill(batch.images, batch.captions, step, batch.others)
        return distilled.total, distilled.values

    def towers(self) -> Sequence[nn.Module]:
        """None: the adapter's values are swapped in place, which compiled towers do not see."""
        return ()

    def after_step(self, step: int) -> None:
        """Move the EMA."""
        self.distiller.update_ema()

    def health(self, step: int, values: Mapping[str, float]) -> str | None:
        """Whether the maps have collapsed."""
        names = ("map_std", "map_correlation", "selected")
        return self.monitor.update(MapStatistics(*(values[name] for name in names)))

    def state(self) -> dict[str, Any]:
        """The adapter, its EMA, and what the collapse monitor has seen."""
        adapter = {name: value.detach() for name, value in self.parameters().items()}
        return {
            "adapter": adapter,
            "average": self.distiller.average,
            "monitor": self.monitor.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to `state()`."""
        self.distiller.load(state["adapter"], state["average"])
        self.monitor.restore(state["monitor"])

    def evaluate(self, ranks: Ranks) -> Mapping[str, float]:
        """Scores on the held-out set, in the first process."""
        if self.evaluator is None or not ranks.first:
            return {}
        return self.evaluator(self.backbone)

    def score(self, scores: Mapping[str, float]) -> float:
        """The harmonic mean of `GUARDS`."""
        return score(scores)

    def export(self, path: Path, step: int) -> None:
        """The adapter as a safetensors file that says what made it."""
        recipe = {**self._identity, "step": step}
        save_adapter(self.backbone, path, replace(self._info, recipe=recipe))

    def finish(self, finished: Path) -> None:
        """A PEFT folder beside the finished adapter, where the settings ask for one."""
        if self.config.peft:
            state, info = read_adapter(finished)
            write_peft_folder(state, finished.with_suffix(""), info)

    def identity(self) -> dict[str, Any]:
        """Settings, pairs, base weights, and the PAMR kernel: another one rounds otherwise."""
        return self._identity

    def inputs(self) -> Inputs:
        """Pairs and held-out set."""
        sources = [pair_sources(self._source.pairs)]
        if self.config.eval_root is not None:
            sources.append(heldout_sources(self.config.eval_root, self.config.eval_limit))
        return Inputs(chain.from_iterable(sources), trust=self.config.trust_inputs)

    def agreement(self) -> Any:
        """Pairs, base weights, and the pairs that words are compared with."""
        return self._identity["pairs"], self._identity["base"], self._sample

    def describe(self) -> list[str]:
        """The model and its adapter."""
        count = sum(value.numel() for value in self.parameters().values())
        return [
            f"{self.backbone.arch} ({self.backbone.head}), adapter of rank "
            f"{self.config.lora.rank} with {count:,} parameters",
            *([self._calibration.describe()] if self._calibration else []),
        ]


def score(scores: Mapping[str, float]) -> float:
    """What the best adapter is chosen by: the harmonic mean of `GUARDS`, in [0, 1].

    One bad score of three pulls it down. A score that could not be computed (NaN) is left out;
    without any the result is 0.
    """
    known = [scores[name] for name in GUARDS if not math.isnan(scores[name])]
    if not known:
        return 0.0
    return len(known) / sum(1 / max(value, 1e-9) for value in known)


def _identity(config: TTDConfig, pairs: Pairs, backbone: Backbone, pamr: PAMR) -> dict[str, Any]:
    fixed = {**identity(config), "pairs": pairs.digest, "base": backbone.checksum}
    if config.distill.refine == "pamr":
        fixed["pamr_kernel"] = pamr.kernel(backbone.device)
    return fixed
