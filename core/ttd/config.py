"""The settings of a TTD training run, from YAML and flags, checked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import TTDError
from ..tags.protocol import NORMS, SCORERS
from ..training.config import RENAMED, RunConfig, renamed
from ..utils.config import build, nested

DISTANCES = ("l1", "mse", "bce")
TEACHERS = ("current", "ema", "frozen")
ANCHORS = ("none", "frozen", "contrastive")
STRETCHES = ("range", "median", "mask")
REFINES = ("none", "pamr")
LEAST_PAIRS = 4  # of a calibration, for trials; a hundred say something
SELECTORS = (*SCORERS, "pixel+image")
SELECTIONS = ("caption", "calibrated")


@dataclass(frozen=True)
class DistillConfig:
    """Everything that shapes the loss. TTDError for a value that cannot be.

    distance: d, `l1`, `mse`, or `bce` of sigmoid(sharpness a (S - b)), a and b the model's soft
    mask. A sharpness above 1 stops pushing cosines that are far enough on the right side of b.
    tag_weight: lambda.
    rank_weight: of L_rank, with selection `calibrated`: words of other captions that an image does
    not show have their nearest pixels below those of the words that it shows. rank_words: how many
    words of the calibration's captions are drawn for it in every step.
    selection: how words are selected, within each `caption` (scorer, norm, threshold, None: Otsu),
    or `calibrated` on `calibration` unlabelled pairs (core/ttd/calibration.py): the frozen base
    compares each word with itself in other images. stopwords: True: function words are never
    selected. Beside the scorers of core.tags.scoring there is
    `pixel+image`, the mean of both cosines: what the nearest pixel and the whole image get wrong
    are different words, so together they teach each other.
    stretch: how a map becomes a target in [0, 1]: by its own `range`, or from its `median` to its
    98 % quantile, so that neither half of the background nor a single peak takes part; `mask`: the
    same of the model's soft mask, which knows where a cosine begins to mean something.
    contrast: targets are stretched around 0.5, clamp(0.5 + contrast (M - 0.5)): at 3 all below 1/3
    is background.
    refine: `pamr` draws the targets along the edges of the image (PAMR at its full size, then
    back on the grid).
    teacher: whose maps the targets are: the `current` model's (as the paper's figure), its EMA's
    (`ema`: `ema_decay` old + rest new after every step), or the `frozen` base's.
    ema_share: how much of what the EMA has learnt teaches: the base's weights plus this times the
    average's change of them. Less is nearer to the base: it gains less in few steps, and drifts
    later.
    anchor: `frozen` keeps every text and pixel embedding near the base's (1 - cosine);
    `contrastive` is CLIP's InfoNCE on the batch. anchor_weight: its weight.
    """

    distance: str = "mse"
    sharpness: float = 1.0
    tag_weight: float = 1.0
    rank_weight: float = 0.0
    rank_words: int = 32
    selection: str = "caption"
    calibration: int = 256
    scorer: str = "pixel"
    norm: str = "minmax"
    threshold: float | None = None
    stopwords: bool = False
    refine: str = "none"
    stretch: str = "range"
    contrast: float = 1.0
    teacher: str = "current"
    ema_decay: float = 0.99
    ema_share: float = 1.0
    anchor: str = "none"
    anchor_weight: float = 0.0

    def __post_init__(self) -> None:
        self._check_choices()
        for name in ("tag_weight", "rank_weight", "anchor_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TTDError(f"{name} {getattr(self, name)}: weights must be >= 0")
        if not 0 < self.sharpness < math.inf:
            raise TTDError(f"sharpness {self.sharpness}: must be a positive number")
        if not 1 <= self.contrast < math.inf:
            raise TTDError(
                f"contrast {self.contrast}: 1 leaves the targets as they are, more stretches them"
            )
        if self.calibration < LEAST_PAIRS:
            raise TTDError(f"calibration {self.calibration}: must be {LEAST_PAIRS} pairs or more")
        if self.rank_words < 1:
            raise TTDError(f"rank_words {self.rank_words}: must be 1 or more")
        if self.rank_weight and not self.calibrated:
            raise TTDError(
                f"rank_weight {self.rank_weight:g} with selection {self.selection!r}: only "
                "'calibrated' knows which words an image does not show; "
                "add --set distill.selection=calibrated, or --set distill.rank_weight=0"
            )
        for name in ("ema_decay", "ema_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise TTDError(f"{name} {getattr(self, name)}: must be a share in [0, 1]")
        if self.ema_share != 1 and self.teacher != "ema":
            raise TTDError(
                f"ema_share {self.ema_share} with teacher {self.teacher!r}: it is of teacher 'ema'"
            )
        if (self.anchor == "none") != (self.anchor_weight == 0):
            raise TTDError(
                f"anchor {self.anchor!r} with anchor_weight {self.anchor_weight}: "
                "give both or neither"
            )

    def _check_choices(self) -> None:
        choices = {
            "distance": DISTANCES,
            "scorer": SELECTORS,
            "selection": SELECTIONS,
            "norm": NORMS,
            "teacher": TEACHERS,
            "anchor": ANCHORS,
            "stretch": STRETCHES,
            "refine": REFINES,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise TTDError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(known)}")

    @property
    def needs_pooled(self) -> bool:
        """Whether the pooled image embedding takes part in the teacher's choice of words."""
        return self.selection == "caption" and "image" in self.scorer

    @property
    def calibrated(self) -> bool:
        """Whether the frozen base selects, by a calibration."""
        return self.selection == "calibrated"


@dataclass(frozen=True)
class LoraConfig:
    """The adapter: the adapted weight is W + (alpha / rank) B A.

    targets: last parts of the names of the linears it sits on (None: all that get a gradient).
    encoders: `text`, `image` or `both`. TTDError: rank or alpha not positive.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] | None = None
    encoders: str = "both"

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise TTDError(f"lora: rank {self.rank}, alpha {self.alpha}: both must be positive")


@dataclass(frozen=True, kw_only=True)
class TTDConfig(RunConfig):
    """A training run of TTD; docs/training.md explains every setting.

    TTDError for a value that cannot be.
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
        "peft",
    )
    COUNTS: ClassVar[tuple[str, ...]] = (*RunConfig.COUNTS, "image", "limit", "eval_limit")
    LATER: ClassVar[Mapping[str, Any]] = {
        "distill.ema_share": 1.0,
        "distill.rank_weight": 0.0,
        "distill.rank_words": 32,  # as it is in the recipes; without a weight it does nothing
    }

    arch: str = "tiny"
    weights: str | None = None
    head: str | None = None
    data: str = "cc3m"
    root: str = "../"
    pruned: tuple[str, ...] = ()
    limit: int | None = None
    allow_missing: bool = False
    image: int | None = None
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = True
    crop: float = 1.0
    distill: DistillConfig = field(default_factory=DistillConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    eval_root: str | None = None
    eval_limit: int | None = None
    peft: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.crop <= 1:
            raise TTDError(
                f"crop {self.crop:g}: the smallest side of a random crop must be a share in (0, 1]"
            )
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise TTDError(
                f"scales {list(self.scales)}: must be positive numbers; 1.0 is the image's own size"
            )

    @property
    def default_name(self) -> str:
        """What the finished adapter is called without `tag`."""
        return f"{self.arch}+TTD"


def load_config(
    values: Mapping[str, Any], source: str = "settings", warn: Callable[[str], None] = warnings.warn
) -> TTDConfig:
    """A `TTDConfig` from nested mappings; keys may be dotted: {"lora.rank": 4} sets lora's rank.

    `source` names the values in errors; `warn` gets a line for every setting with an old name.
    TTDError: unknown keys (those there are, are listed), wrong types or values.
    """
    return build(TTDConfig, nested(renamed(values, RENAMED, warn)), source)
