"""Settings of TCL: weights and targets of the loss, and of a training run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import TTDError
from ..training.config import RunConfig
from ..training.schedules import cosine, linear_warmup
from ..utils.config import build, nested
from .augment import AugmentConfig

FIRST_RATE = 1e-4  # share of the peak that the warm-up starts from


@dataclass(frozen=True)
class LossConfig:
    """Weights and targets of TCL's terms, as in the released configuration.

    area, neg_area: wanted means of the masks of an image's own text and of the others'.
    tau: temperature of the Gumbel-sigmoid. parity: on several processes, compute what the released
    code does: the feature-level loss mixes masks of different processes' texts, and the area is
    compared with its target in each process alone. chunk: texts whose masks are held at a time;
    None: by memory (4 MB a tensor on the CPU, 32 MB on a GPU), 0: all at once.

    Errors: TTDError for a value that cannot be.
    """

    area: float = 0.4
    neg_area: float = 0.0
    area_weight: float = 0.4
    neg_area_weight: float = 0.4
    tclf_weight: float = 0.1
    tcli_weight: float = 0.1
    tv_img_weight: float = 1.0
    tv_mask_weight: float = 1.0
    tau: float = 1.0
    parity: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise TTDError(f"weight of {name} {weight:g}: must be at least 0")
        for name in ("area", "neg_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise TTDError(f"{name} {getattr(self, name):g}: a mean of masks is in [0, 1]")
        if not 0 < self.tau < math.inf:
            raise TTDError(f"tau {self.tau:g}: must be a positive number")
        if self.chunk is not None and self.chunk < 0:
            raise TTDError(f"chunk {self.chunk}: must be a number of texts, 0 for all, or null")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term by the name that it is logged by."""
        return {
            "area_loss": self.area_weight,
            "neg_area_loss": self.neg_area_weight,
            "tclf_loss": self.tclf_weight,
            "tcli_loss": self.tcli_weight,
            "tv_img_loss": self.tv_img_weight,
            "tv_mask_loss": self.tv_mask_weight,
        }


@dataclass(frozen=True)
class EvalConfig:
    """Segmentation sets that the best step is chosen by: never those that are reported.

    sets: names or YAML files, none: the last step is kept; root: the folder that holds the named
    ones; limit: only their first so many images. image: short side in pixels, None: twice the
    model's own, 448 for ViT-B/16. pamr: refine inside the windows; threshold 0.4 with it, 0.5
    without.
    """

    sets: tuple[str, ...] = ()
    root: str = "../"
    limit: int | None = None
    image: int | None = None
    pamr: bool = True

    def __post_init__(self) -> None:
        for name in ("limit", "image"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise TTDError(f"evaluation.{name} must be a whole number of at least 1")


@dataclass(frozen=True, kw_only=True)
class TCLConfig(RunConfig):
    """A training run of TCL; docs/tcl.md explains every setting.

    arch, weights: the CLIP to start from; resume_from: a TCL checkpoint to start from instead, its
    weights alone. thaw_at: step from which the copied block is trained too. decay_scalars: weight
    decay on gates, Sim2Mask and temperatures, as in the released code. cached_captions: embeddings
    that may be kept in memory when every pair is drawn at least once.

    Errors: TTDError for a value that cannot be.
    """

    # Data and weights are known by their content, wherever they are.
    FREE: ClassVar[tuple[str, ...]] = (
        *RunConfig.FREE,
        "root",
        "data",
        "pruned",
        "limit",
        "allow_missing",
        "weights",
        "resume_from",
        "cached_captions",
    )
    COUNTS: ClassVar[tuple[str, ...]] = (*RunConfig.COUNTS, "image", "limit", "stages", "copied")

    arch: str = "CLIP"
    weights: str | None = None
    resume_from: str | None = None
    stages: int = 2
    copied: int = 1
    data: str = "cc3m+cc12m"
    root: str = "../"
    pruned: tuple[str, ...] = ()
    limit: int | None = None
    allow_missing: bool = False
    image: int | None = None
    thaw_at: int = 30000
    decay_scalars: bool = True
    cached_captions: int = 200_000
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("thaw_at", "cached_captions"):
            if getattr(self, name) < 0:
                raise TTDError(f"{name} {getattr(self, name)}: cannot be negative")
        if self.schedule != "cosine":
            raise TTDError(f"schedule {self.schedule!r}: TCL is trained with 'cosine'")

    @property
    def default_name(self) -> str:
        """What the finished checkpoint is called without `tag`."""
        return "TCL"


def tcl_rate(step: int, config: TCLConfig) -> float:
    """The learning rate of step `step`, from 0.

    W = warmup, T = steps - 1: a line from lr / 10,000 at 0 to lr at W, then half a cosine down to
    lr * lr_floor at T, the last step. Source: the released configuration.
    """
    if step < config.warmup:
        return config.lr * linear_warmup(step, config.warmup, FIRST_RATE)
    done, left = step - config.warmup, config.steps - 1 - config.warmup
    return config.lr * cosine(done, left, config.lr_floor)


def load_config(
    values: Mapping[str, Any], source: str = "settings", warn: Callable[[str], None] = warnings.warn
) -> TCLConfig:
    """A `TCLConfig` from nested mappings; keys may be dotted: {"loss.area": 0.3}.

    `source` names the values in errors. TTDError: unknown keys (those there are, are listed),
    wrong types or values.
    """
    return build(TCLConfig, nested(values), source)
