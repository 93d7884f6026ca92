"""Text-Tag Self-Distillation as pure functions: what the pixels and texts of a batch are pulled towards.

    texts = gather_texts(captions)
    student = embed(backbone, images, texts)                      # one image pass, one text pass, with gradient
    losses = ttd_loss(student, texts, config, mask)               # targets from the student itself, without gradient
    losses.total.backward()

For a caption with words k and similarity maps S (cosines, [-1, 1]), N = min-max over the map's own
pixels: selected words M_k = N(S_k), rejected words M_k = 0, union U = max_k M_k per pixel;
L_distill = d(S_T, U), L_tag = d(S_k, M_k), L = L_distill + tag_weight * L_tag (+ anchor_weight *
L_anchor, ours):
mean over pixels, then over the words of a caption, then over captions. Source: TTD (ECCV 2024),
overview figure; d, the teachers, the anchors and the refinement of targets along the image's
edges are decisions of this project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone, resize_maps
from ..backbones.similarity import cosine_maps
from ..data.words import is_stopword, split_words
from ..errors import TTDError
from ..refine.pamr import PAMR
from ..tags.protocol import NORMS, SCORERS
from ..tags.selection import minmax, select
from ..text.encode import encode_texts

DISTANCES = ("l1", "mse", "bce")
TEACHERS = ("current", "ema", "frozen")
ANCHORS = ("none", "frozen", "contrastive")
REFINES = ("none", "pamr")
SELECTORS = (*SCORERS, "pixel+image")
MAX_WORDS = (
    64  # of one caption: longer ones are no captions, and every map of a batch is held at once
)


@dataclass(frozen=True)
class DistillConfig:
    """Everything that shapes the loss. TTDError for a value that cannot be.

    distance: d, `l1`, `mse`, or `bce` of sigmoid(sharpness a (S - b)), a and b the model's soft
    mask. A sharpness above 1 stops pushing cosines that are far enough on the right side of b.
    tag_weight: lambda. scorer, norm, threshold (None: Otsu), stopwords (True: function words are
    never selected): how words are selected. Beside the scorers of core.tags.scoring there is
    `pixel+image`, the mean of both cosines: what the nearest pixel and the whole image get wrong
    are different words, so together they teach each other.
    contrast: targets are stretched around 0.5, clamp(0.5 + contrast (M - 0.5)): at 3 all below 1/3
    is background.
    refine: `pamr` draws the targets along the edges of the image (PAMR at its full size, then
    back on the grid).
    teacher: whose maps the targets are: the `current` model's (as the paper's figure), a slow
    average's (`ema`, whose weights are `ema_decay` old + rest new after every step), or the
    `frozen` base's.
    anchor: `frozen` keeps every text and pixel embedding near the base's (1 - cosine);
    `contrastive` is CLIP's InfoNCE on the batch. anchor_weight: its weight.
    """

    distance: str = "mse"
    sharpness: float = 1.0
    tag_weight: float = 1.0
    scorer: str = "pixel"
    norm: str = "minmax"
    threshold: float | None = None
    stopwords: bool = False
    refine: str = "none"
    contrast: float = 1.0
    teacher: str = "current"
    ema_decay: float = 0.99
    anchor: str = "none"
    anchor_weight: float = 0.0

    def __post_init__(self) -> None:
        for name, served in (
            ("distance", DISTANCES),
            ("scorer", SELECTORS),
            ("norm", NORMS),
            ("teacher", TEACHERS),
            ("anchor", ANCHORS),
            ("refine", REFINES),
        ):
            if getattr(self, name) not in served:
                raise TTDError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(served)}")
        if not (0 <= self.tag_weight < math.inf and 0 <= self.anchor_weight < math.inf):
            raise TTDError(
                f"tag_weight {self.tag_weight}, anchor_weight {self.anchor_weight}: weights must be >= 0"
            )
        if not 0 < self.sharpness < math.inf:
            raise TTDError(f"sharpness {self.sharpness}: a positive number is due")
        if not 1 <= self.contrast < math.inf:
            raise TTDError(
                f"contrast {self.contrast}: 1 leaves the targets as they are, more stretches them"
            )
        if not 0 <= self.ema_decay <= 1:
            raise TTDError(f"ema_decay {self.ema_decay}: a share in [0, 1] is due")
        if (self.anchor == "none") != (self.anchor_weight == 0):
            raise TTDError(
                f"anchor {self.anchor!r} with anchor_weight {self.anchor_weight}: give both or neither"
            )

    @property
    def needs_pooled(self) -> bool:
        """Whether the pooled image embedding takes part in the teacher's choice of words."""
        return "image" in self.scorer


@dataclass(frozen=True)
class TextBatch:
    """The texts of B captions. words: the U distinct ones; index [B, K] into them, valid [B, K] (False: padding).

    stop [B, K]: function words. K is the largest number of words in a caption, at least 1.
    """

    captions: list[str]
    words: list[str]
    index: Tensor
    valid: Tensor
    stop: Tensor


def gather_texts(captions: Sequence[str]) -> TextBatch:
    """Split B captions into words (the first `MAX_WORDS` of each), as they stand; each distinct word once."""
    rows = [[word.text for word in split_words(caption)[:MAX_WORDS]] for caption in captions]
    numbers = {
        word: i for i, word in enumerate(dict.fromkeys(word for row in rows for word in row))
    }
    index = torch.zeros(len(rows), max(1, *map(len, rows), 1), dtype=torch.long)
    valid, stop = (
        torch.zeros(index.shape, dtype=torch.bool),
        torch.zeros(index.shape, dtype=torch.bool),
    )
    for i, row in enumerate(rows):
        index[i, : len(row)] = torch.tensor([numbers[word] for word in row], dtype=torch.long)
        valid[i, : len(row)] = True
        stop[i, : len(row)] = torch.tensor([is_stopword(word) for word in row], dtype=torch.bool)
    return TextBatch(
        list(captions), list(numbers) or [""], index, valid, stop
    )  # never no row at all to index


@dataclass(frozen=True)
class Embedded:
    """A batch in embedding space, float32, L2-normalized: pixels [B,D,h,w], words [U,D], captions [B,D].

    pooled [B,D]: the whole images, where something needs them.
    """

    pixels: Tensor
    words: Tensor
    captions: Tensor
    pooled: Tensor | None = None


def embed(backbone: Backbone, images: Tensor, texts: TextBatch, pooled: bool = False) -> Embedded:
    """Encode normalized images [B,3,H,W] once, every distinct word and every caption once; gradient flows.

    H and W must be multiples of the patch: cells of nothing but padding would count. TTDError
    otherwise.
    """
    if any(side % backbone.patch for side in images.shape[-2:]):
        raise TTDError(
            f"training images of {tuple(images.shape[-2:])} pixels: choose --image as a multiple of the "
            f"patch ({backbone.patch})"
        )
    pixels, whole = (
        backbone.encode_both(images) if pooled else (backbone.encode_pixels(images), None)
    )
    encoded = encode_texts(
        backbone, texts.words + texts.captions
    )  # sorted by length: short words stay cheap
    words, captions = encoded.split([len(texts.words), len(texts.captions)])
    return Embedded(
        F.normalize(pixels.float(), dim=1),
        words,
        captions,
        None if whole is None else F.normalize(whole.float(), dim=-1),
    )


@dataclass(frozen=True)
class Maps:
    """Cosine maps: words [B,K,h,w] (padding: 0), captions [B,h,w], in [-1, 1]."""

    words: Tensor
    captions: Tensor


def similarity_maps(embedded: Embedded, texts: TextBatch) -> Maps:
    """The maps of every caption and of its own words in its own image."""
    device = embedded.pixels.device
    own = embedded.words[texts.index.to(device)] * texts.valid.to(device)[..., None]  # (B, K, D)
    both = torch.cat([own, embedded.captions[:, None]], 1)
    maps = cosine_maps(embedded.pixels, both)
    return Maps(maps[:, :-1], maps[:, -1])


@dataclass(frozen=True)
class Targets:
    """What the maps are pulled to, in [0, 1], without gradient: words [B,K,h,w], union [B,h,w]; selected [B,K]."""

    words: Tensor
    union: Tensor
    selected: Tensor


@torch.no_grad()
def make_targets(
    teacher: Embedded,
    texts: TextBatch,
    config: DistillConfig,
    logit_scale: float = 100.0,
    images: Tensor | None = None,
    pamr: PAMR | None = None,
) -> Targets:
    """Select the words of each caption by the teacher's scores; min-max maps for those, 0 for the others; union.

    images [B,3,H,W], any value range: the batch, for `refine`. TTDError when it is needed and not
    there. pamr: as in `ttd_loss`.
    """
    maps = similarity_maps(teacher, texts)
    valid, stop = (flags.to(maps.words.device) for flags in (texts.valid, texts.stop))
    selected, _ = select(
        _scores(teacher, maps, texts, config.scorer),
        stop if config.stopwords else None,
        mask=valid,
        norm=config.norm,
        threshold=config.threshold,
        logit_scale=logit_scale,
    )
    words = _minmax(maps.words) * selected[..., None, None]
    if config.refine == "pamr":
        words = _refined(words, selected, images, pamr or PAMR())
    words = (0.5 + config.contrast * (words - 0.5)).clamp(0, 1) if config.contrast != 1 else words
    return Targets(words, words.amax(1), selected)


def _minmax(maps: Tensor) -> Tensor:
    """Each map [...,h,w] to [0, 1] by its own range."""
    return minmax(maps.flatten(-2)).view_as(maps)


def _refined(words: Tensor, selected: Tensor, images: Tensor | None, pamr: PAMR) -> Tensor:
    """The selected maps of words [B,K,h,w] along the edges of images [B,3,H,W]; min-max again, since PAMR averages."""
    if images is None:
        raise TTDError("refine 'pamr' needs the images of the batch: pass images")
    order = selected.int().argsort(dim=1, descending=True, stable=True)[
        :, : max(1, int(selected.sum(1).max()))
    ]
    few = words.gather(
        1, order[..., None, None].expand(-1, -1, *words.shape[2:])
    )  # the selected ones come first
    fine = pamr(images, resize_maps(few, tuple(images.shape[-2:])))
    back = (
        _minmax(F.adaptive_avg_pool2d(fine, words.shape[-2:]))
        * selected.gather(1, order)[..., None, None]
    )
    return torch.zeros_like(words).scatter_(
        1, order[..., None, None].expand_as(back), back.to(words)
    )


def _scores(embedded: Embedded, maps: Maps, texts: TextBatch, scorer: str) -> Tensor:
    """Raw scores of the words [B,K]: nearest pixel, whole image, both, or whole caption."""
    if scorer == "pixel":
        return maps.words.flatten(2).amax(2)
    if scorer == "pixel+image":
        return (
            _scores(embedded, maps, texts, "pixel") + _scores(embedded, maps, texts, "image")
        ) / 2
    against = embedded.pooled if scorer == "image" else embedded.captions
    return torch.einsum(
        "bkd,bd->bk", embedded.words[texts.index.to(embedded.words.device)], against
    )


@dataclass(frozen=True)
class Losses:
    """Scalars: total = distill + tag_weight * tag + anchor_weight * anchor; and what they were computed from."""

    total: Tensor
    distill: Tensor
    tag: Tensor
    anchor: Tensor
    maps: Maps
    targets: Targets


def ttd_loss(
    student: Embedded,
    texts: TextBatch,
    config: DistillConfig,
    mask: tuple[float, float],
    *,
    teacher: Embedded | None = None,
    base: Embedded | None = None,
    logit_scale: float = 100.0,
    images: Tensor | None = None,
    pamr: PAMR | None = None,
) -> Losses:
    """The loss of a batch of B captions.

    Args:
        mask: a, b of the backbone's soft mask, for distance `bce`.
        teacher: whose maps give targets and selection; None is the student itself (teacher
        `current`).
        base: the frozen base's embeddings of the same batch, for anchor `frozen`.
        logit_scale: CLIP's temperature, for norm `softmax` and anchor `contrastive`.
        images: the batch [B,3,H,W], for `refine`. pamr: the run's own, which knows how many
        images there will be.

    A caption none of whose words is selected counts with 0, so that the mean over the captions of a
    batch is the mean of the means of its equal parts (gradient accumulation, DDP).
    """
    maps = similarity_maps(student, texts)
    targets = make_targets(teacher or student, texts, config, logit_scale, images, pamr)
    distill, tag = distillation(
        maps, targets, texts.valid, config.distance, (config.sharpness * mask[0], mask[1])
    )
    anchor = (
        _anchor(student, base, texts, config, logit_scale)
        if config.anchor_weight
        else torch.zeros_like(distill)
    )
    return Losses(
        distill + config.tag_weight * tag + config.anchor_weight * anchor,
        distill,
        tag,
        anchor,
        maps,
        targets,
    )


def distillation(
    maps: Maps, targets: Targets, valid: Tensor, distance: str, mask: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """L_distill and L_tag: mean over pixels, then over the valid [B,K] words of a caption, then over captions."""
    valid = valid.to(maps.words.device)
    used = targets.selected.any(1)  # (B,)
    words = pixel_distance(maps.words, targets.words, distance, mask)  # (B, K)
    words = (words * valid).sum(1) / valid.sum(1).clamp(min=1)
    captions = pixel_distance(maps.captions, targets.union, distance, mask)
    return (captions * used).mean(), (words * used).mean()


def pixel_distance(
    maps: Tensor, targets: Tensor, distance: str, mask: tuple[float, float]
) -> Tensor:
    """d between cosine maps and targets in [0, 1], both [...,h,w] -> mean over pixels [...]."""
    if distance == "bce":
        a, b = mask
        return F.binary_cross_entropy_with_logits(a * (maps - b), targets, reduction="none").mean(
            (-2, -1)
        )
    difference = maps - targets
    return (difference.abs() if distance == "l1" else difference.square()).mean((-2, -1))


def _anchor(
    student: Embedded,
    base: Embedded | None,
    texts: TextBatch,
    config: DistillConfig,
    logit_scale: float,
) -> Tensor:
    """The regulariser against collapse (ours), a scalar; words are averaged within captions, as in the loss."""
    if config.anchor == "contrastive":
        logits = logit_scale * student.pooled @ student.captions.T  # (B, B)
        target = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    if base is None:
        raise TTDError("anchor 'frozen' needs the frozen base's embeddings of the batch: pass base")
    valid = texts.valid.to(student.words.device)
    words = (student.words * base.words).sum(-1)[texts.index.to(valid.device)]  # (B, K)
    words = torch.where(
        valid.any(1), (words * valid).sum(1) / valid.sum(1).clamp(min=1), 1.0
    )  # no word: nothing moved
    pixels, captions = (
        (student.pixels * base.pixels).sum(1),
        (student.captions * base.captions).sum(-1),
    )
    return 1 - torch.stack([pixels.mean(), words.mean(), captions.mean()]).mean()


@dataclass(frozen=True)
class MapStatistics:
    """How alive the maps of the selected words of a batch are.

    spread: mean over words of the standard deviation of the cosine over pixels. alike: mean Pearson
    correlation between the maps of two different selected words of a caption (0 where no caption
    has two).
    selected: share of the words that are selected. Scalars, as tensors or numbers.
    """

    spread: Tensor | float
    alike: Tensor | float
    selected: Tensor | float


@torch.no_grad()
def map_statistics(maps: Maps, selected: Tensor, texts: TextBatch) -> MapStatistics:
    """Statistics of one batch, for logs and `CollapseMonitor`."""
    index, valid = texts.index.to(selected.device), texts.valid.to(selected.device)
    centred = maps.words.flatten(2) - maps.words.flatten(2).mean(2, keepdim=True)
    spread = centred.square().mean(2).sqrt()  # (B, K)
    unit = F.normalize(centred, dim=2)
    pairs = selected[:, :, None] & selected[:, None, :] & (index[:, :, None] != index[:, None, :])
    return MapStatistics(
        _mean_of(spread, selected),
        _mean_of(unit @ unit.transpose(1, 2), pairs),
        _mean_of(selected.to(spread), valid),
    )


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 for none: a scalar. No boolean index, which would make a GPU wait."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
