"""A grounding run's settings: CLIP-VG's recipe by default, for any backbone and data."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ..data.grounding_sets import grounding_set
from ..data.grounding_view import Augmentation
from ..errors import TTDError
from ..training.config import RENAMED, RunConfig, renamed
from ..utils.config import build

OPTIMIZERS = ("adamw", "adam", "rmsprop", "sgd", "muon")
POSITION_STARTS = ("normal", "sines")
SUPERVISION = {"full": "train", "pseudo": "train_pseudo"}
QUERY = "{pseudo_query}"  # where the phrase stands in a prompt


@dataclass(frozen=True, kw_only=True)
class GroundingConfig(RunConfig):
    """A training run; docs/grounding.md explains every setting.

    arch, weights: the backbone. dataset: benchmarks trained on together, read from split_root
    (lists) and data_root (images); data, val: own lists instead. sup: "full" for the annotated
    split, "pseudo" for pseudo-labels. epochs: passes over the data, instead of steps; rates then
    change once an epoch, as published. image, context, hidden, blocks: None for the backbone's.
    crop, scale, translate, blur, jitter, parity: see `Augmentation`. encoder_autocast: the encoder
    too in `dtype`; published is float32. whiten, input_positions: see `ModelConfig`; the maps are
    measured on the first training samples. init: a grounding model to start from, whose own two
    win. attention_loss: weight of the term that draws REG's attention into the box (ours, see
    `losses.attention_loss`; published: none). position_start: what the encoder's position table
    begins as, "normal" (published: drawn) or "sines" (`encoder.sine_table`). cache: a folder for
    the frozen towers' features, which then run once per image; without augmentation only.
    Errors: TTDError for a value that cannot be.
    """

    SCHEDULES: ClassVar[tuple[str, ...]] = (
        "cosine",
        "step",
        "poly",
        "halfdecay",
        "exponential",
        "constant",
    )
    FREE: ClassVar[tuple[str, ...]] = (*RunConfig.FREE, "data_root", "split_root", "cache")
    COUNTS: ClassVar[tuple[str, ...]] = (
        *RunConfig.COUNTS,
        "epoch_steps",
        "image",
        "context",
        "hidden",
        "heads",
        "layers",
        "feedforward",
        "eval_limit",
        "eval_batch",
    )

    arch: str = "CLIP"
    weights: str | None = None
    dataset: tuple[str, ...] = ("unc",)
    data_root: str = "data/image_data"
    split_root: str = "data/pseudo_samples"
    data: str | None = None
    val: str | None = None
    sup: str = "full"
    epochs: float | None = None
    epoch_steps: int = 1
    image: int | None = None
    context: int | None = None
    prompt: str = QUERY
    train_visual_pos: bool = True
    blocks: tuple[int, ...] | None = None
    hidden: int | None = None
    heads: int = 8
    layers: int = 6
    feedforward: int = 2048
    dropout: float = 0.1
    whiten: int = 0
    input_positions: bool = False
    crop: bool = False
    scale: bool = False
    translate: bool = False
    blur: bool = False
    jitter: bool = True
    parity: bool = False
    encoder_autocast: bool = False
    init: str | None = None
    cache: str | None = None
    attention_loss: float = 0.0
    position_start: str = "normal"
    optimizer: str = "adamw"
    lr_power: float = 0.9
    lr_exponential: float = 0.9
    eval_limit: int | None = None
    eval_batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("optimizer", OPTIMIZERS)
        self._check_choice("sup", tuple(SUPERVISION))
        self._check_choice("position_start", POSITION_STARTS)
        for name in self.dataset if self.data is None else ():
            grounding_set(name)
        if QUERY not in self.prompt:
            raise TTDError(f"prompt {self.prompt!r}: must hold {QUERY}, where the phrase stands")
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise TTDError(f"epochs {self.epochs:g}: must be a positive number")
        changes = self.crop or self.scale or self.translate or self.blur or self.jitter
        if self.cache is not None and (changes or self.train_visual_pos):
            raise TTDError(
                "cache: features can only be kept without augmentation (jitter false too) and with "
                "train_visual_pos false"
            )
        if not 0 <= self.dropout < 1:
            raise TTDError(f"dropout {self.dropout:g}: must be a share in [0, 1)")
        for name in ("lr_power", "lr_exponential", "attention_loss"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TTDError(f"{name} {getattr(self, name):g}: must be at least 0")

    @property
    def default_name(self) -> str:
        """Backbone and data, such as "CLIP+unc-full"; of an own list its name, "tiny-cls+train"."""
        if self.data is not None:
            return f"{self.arch}+{Path(self.data).stem}"
        return f"{self.arch}+{'+'.join(self.dataset)}-{self.sup}"

    @property
    def augmentation(self) -> Augmentation:
        """The random changes of training images."""
        return Augmentation(
            crop=self.crop,
            scale=self.scale,
            translate=self.translate,
            blur=self.blur,
            jitter=self.jitter,
            parity=self.parity,
        )


def load_config(
    values: Mapping[str, Any], source: str, warn: Callable[[str], None] = lambda line: None
) -> GroundingConfig:
    """The settings in a mapping; `source` names them in errors. TTDError for what is wrong."""
    return build(GroundingConfig, renamed(values, RENAMED, warn), source)


def in_steps(config: GroundingConfig, count: int, given: Collection[str] = ()) -> GroundingConfig:
    """Epochs over `count` phrases as steps, with one evaluation and checkpoint an epoch.

    given: names of settings that stay as they are. `lr_drop_every` counts epochs then. Without
    `epochs`, or where steps are given, nothing changes.
    """
    if config.epochs is None or "steps" in given:
        return config
    epoch = max(1, count // config.batch)
    changes: dict[str, Any] = {"steps": max(1, round(config.epochs * epoch)), "epoch_steps": epoch}
    for name in ("eval_every", "checkpoint_every"):
        if name not in given:
            changes[name] = epoch
    if config.lr_drop_every is not None:
        changes["lr_drop_every"] = config.lr_drop_every * epoch
    return replace(config, **changes)


def learning_rate(step: int, config: GroundingConfig, start: int = 0) -> float:
    """The rate of a step: linear warm-up, then CLIP-VG's schedules, which begin at step `start`.

    With e epochs of E done (counted in whole `epoch_steps`), the share of the peak is
    cosine (1 + cos(pi e/E)) / 2, poly (1 - e/E)^lr_power, halfdecay 0.5^floor(10 e/E),
    step lr_drop^floor(steps / lr_drop_every), exponential lr_exponential^e.
    """
    step, steps = step - start, config.steps - start
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    epoch = step // config.epoch_steps
    share = epoch * config.epoch_steps / steps
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * share))
    if config.schedule == "poly":
        return config.lr * math.pow(1 - share, config.lr_power)
    if config.schedule == "halfdecay":
        return config.lr * 0.5 ** math.floor(10 * share)
    if config.schedule == "exponential":
        return config.lr * math.pow(config.lr_exponential, epoch)
    if config.schedule == "step":
        return config.lr * config.lr_drop ** (step // (config.lr_drop_every or steps))
    return config.lr
