"""Every setting of a training run, from YAML and flags, checked: one frozen object that goes into the run's folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TTDError
from ..utils.config import build, nested, plain
from .loss import DistillConfig

DTYPES = ("float32", "bfloat16")
SCHEDULES = ("cosine", "constant")
KEPT = ("best", "last")
# What a resumed run may change: where things are and how fast they are done. Data and weights are
# known by content.
FREE = (
    "out",
    "tag",
    "root",
    "data",
    "pruned",
    "limit",
    "weights",
    "device",
    "threads",
    "workers",
    "log_every",
    "checkpoint_every",
    "peft",
)


@dataclass(frozen=True)
class LoraConfig:
    """The adapter. targets: last parts of the names of the linears it sits on (None: all that get a gradient).

    encoders: `text`, `image` or `both`. The adapted weight is W + (alpha / rank) B A.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] | None = None
    encoders: str = "both"

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise TTDError(f"lora: rank {self.rank}, alpha {self.alpha}: both must be positive")


@dataclass(frozen=True)
class TTDConfig:
    """A training run; docs/training.md explains every setting. TTDError for a value that cannot be."""

    arch: str = "tiny"
    weights: str | None = None
    head: str | None = None
    data: str = "cc3m"
    root: str = "../"
    pruned: tuple[str, ...] = ()
    limit: int | None = None
    image: int | None = None
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = True
    crop: float = 1.0
    steps: int = 200
    batch: int = 16
    accumulate: int = 1
    lr: float = 1e-4
    warmup: int = 20
    schedule: str = "cosine"
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    dtype: str = "float32"
    distill: DistillConfig = field(default_factory=DistillConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    eval_root: str | None = None
    eval_limit: int | None = None
    eval_every: int = 50
    keep: str = "best"
    out: str | None = None
    tag: str | None = None
    peft: bool = False
    checkpoint_every: int = 50
    log_every: int = 10
    device: str | None = None
    threads: int | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch",
            "accumulate",
            "eval_every",
            "checkpoint_every",
            "log_every",
            "workers",
            "image",
            "limit",
            "eval_limit",
            "threads",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise TTDError(f"{name} {getattr(self, name)}: a whole number of at least 1 is due")
        for name, served in (("dtype", DTYPES), ("schedule", SCHEDULES), ("keep", KEPT)):
            if getattr(self, name) not in served:
                raise TTDError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(served)}")
        if (
            not 0 < self.lr < math.inf
            or not 0 < self.clip < math.inf
            or not 0 <= self.weight_decay < math.inf
        ):
            raise TTDError(
                f"lr {self.lr:g}, clip {self.clip:g}, weight_decay {self.weight_decay:g}: positive numbers "
                "are due"
            )
        if self.warmup < 0 or self.seed < 0:
            raise TTDError(f"warmup {self.warmup}, seed {self.seed}: neither can be negative")
        if not 0 < self.crop <= 1:
            raise TTDError(
                f"crop {self.crop:g}: the smallest side of a random crop, a share in (0, 1], is due"
            )
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise TTDError(
                f"scales {list(self.scales)}: positive numbers are due; 1.0 is the image's own"
            )

    @property
    def folder(self) -> Path:
        """The run's folder: `out`, else runs/NAME."""
        return Path(self.out).expanduser() if self.out else Path("runs") / self.name

    @property
    def name(self) -> str:
        """What the finished adapter is called: `tag`, else ARCH+TTD; fit for a file."""
        return (self.tag or f"{self.arch}+TTD").translate({ord(c): "_" for c in '/\\:*?"<>|'})


def learning_rate(step: int, config: TTDConfig) -> float:
    """The rate of step `step` (from 0): linear warm-up, then half a cosine to 0 at the end, or constant."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))


def identity(config: TTDConfig) -> dict[str, Any]:
    """The settings that a run cannot change on its way."""
    return {key: value for key, value in plain(config).items() if key not in FREE}


def load_config(values: Mapping[str, Any], source: str = "settings") -> TTDConfig:
    """A `TTDConfig` from nested mappings; keys may also be dotted: {"lora.rank": 4} is {"lora": {"rank": 4}}.

    `source` names the values in errors. TTDError: unknown keys (those there are, are listed), wrong
    types or values.
    """
    return build(TTDConfig, nested(values), source)
