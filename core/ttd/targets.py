"""What the maps are pulled towards: the selected words' own maps, zeros, and their union."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import resize_maps
from ..errors import TTDError
from ..refine.pamr import PAMR
from ..tags.selection import minmax, select
from .calibration import Choice
from .config import DistillConfig
from .embedding import Embedded, Maps, TextBatch, similarity_maps

FLAT = 1e-6  # a difference between a map's pixels that is rounding
PEAK = 0.98  # quantile of a map that becomes 1: a class token's maps have single peaks anywhere


@dataclass(frozen=True)
class Targets:
    """In [0, 1], without gradient: words [B, K, h, w], union [B, h, w]; selected bool [B, K].

    teaches bool [B]: captions that take part in the loss. Without a selected word nothing is known
    of the others, but by a calibration.
    """

    words: Tensor
    union: Tensor
    selected: Tensor
    teaches: Tensor


@torch.no_grad()
def make_targets(
    teacher: Embedded,
    texts: TextBatch,
    config: DistillConfig,
    mask: tuple[float, float],
    *,
    choice: Choice | None = None,
    logit_scale: float = 100.0,
    images: Tensor | None = None,
    pamr: PAMR | None = None,
) -> Targets:
    """Select each caption's words by the teacher's scores; stretched maps for those, else 0.

    mask: a, b of the backbone's soft mask sigmoid(a (S - b)), for stretch `mask`.
    choice: what a calibration says of the words, in place of the teacher's scores.
    images [B, 3, H, W], any value range: the batch, for `refine`. pamr: as in `ttd_loss`.
    TTDError when the images are needed and not there.
    """
    maps = similarity_maps(teacher, texts)
    if choice is None:
        selected = _within_captions(teacher, maps, texts, config, logit_scale)
    else:
        selected = choice.selected
    words = stretched(maps.words, config.stretch, mask) * selected[..., None, None]
    if config.refine == "pamr":
        words = _refined(words, selected, images, pamr or PAMR())
    if config.contrast != 1:
        words = (0.5 + config.contrast * (words - 0.5)).clamp(0, 1)
    return Targets(words, words.amax(1), selected, selected.any(1))


@torch.no_grad()
def keep_unsure(targets: Targets, choice: Choice, base: Maps) -> Targets:
    """Leave alone what is not known: unsure words, and where captions may name them.

    base: the frozen model's maps as targets, in [0, 1] for `bce`, else cosines. An unsure word's
    target is its base map, as far as it is unsure. Of a caption, the base's map takes the place of
    zeros as far as an unsure word may be there (its min-max map); all of it, where no word is
    selected.
    """
    unsure = choice.unsure[..., None, None]
    words = targets.words.lerp(base.words, unsure)
    perhaps = (_minmax(base.words) * unsure).amax(1)  # [B, h, w]
    known = torch.maximum(targets.union, 1 - perhaps)
    known = known * choice.selected.any(1)[:, None, None]
    union = known * targets.union + (1 - known) * base.captions
    return Targets(words, union, targets.selected, torch.ones_like(targets.teaches))


def _within_captions(
    teacher: Embedded, maps: Maps, texts: TextBatch, config: DistillConfig, logit_scale: float
) -> Tensor:
    """The words [B, K] that stand out among those of their caption."""
    valid, stop = (flags.to(maps.words.device) for flags in (texts.valid, texts.stop))
    selected, _ = select(
        _scores(teacher, maps, texts, config.scorer),
        stop if config.stopwords else None,
        mask=valid,
        norm=config.norm,
        threshold=config.threshold,
        logit_scale=logit_scale,
    )
    return selected


def stretched(maps: Tensor, how: str, mask: tuple[float, float]) -> Tensor:
    """Cosine maps [..., h, w] to [0, 1], each by itself; `how`: a stretch of `DistillConfig`.

    mask: a, b of the model's soft mask. Cosines that it calls background differ, too: in a TCL,
    those of a caption's other things from those of the rest.
    """
    if how == "range":
        return _minmax(maps)
    if how == "median":
        return from_median(maps)
    a, b = mask
    soft = torch.sigmoid(a * (maps - b))
    # Soft masks may be small everywhere, where cosines lie far below b. A difference of `FLAT`
    # between cosines is one of a * FLAT of the peak at most.
    return from_median(soft, a * FLAT * soft.amax((-2, -1)).clamp(min=1e-30))


def _minmax(maps: Tensor) -> Tensor:
    """Each map [..., h, w] to [0, 1] by its own range."""
    return minmax(maps.flatten(-2)).view_as(maps)


def from_median(maps: Tensor, least: float | Tensor = FLAT) -> Tensor:
    """Each map [..., h, w] to [0, 1], from its median to its quantile `PEAK`; a flat one to 0.

    least: what is no difference, for all maps or for each [...].
    """
    ordered = maps.flatten(-2).sort(-1).values
    last = ordered.shape[-1] - 1
    low, high = ordered[..., last // 2], ordered[..., round(PEAK * last)]
    span = (high - low).clamp(min=least)[..., None, None]
    return ((maps - low[..., None, None]) / span).clamp(0, 1)


def _refined(words: Tensor, selected: Tensor, images: Tensor | None, pamr: PAMR) -> Tensor:
    """The selected maps of words [B, K, h, w] along the edges of images [B, 3, H, W].

    Min-max again, since PAMR averages.
    """
    if images is None:
        raise TTDError("refine 'pamr' needs the images of the batch: pass images")
    most = max(1, int(selected.sum(1).max()))
    # The selected words first, so that PAMR refines no more maps than needed.
    order = selected.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    few = words.gather(1, order[..., None, None].expand(-1, -1, *words.shape[2:]))
    fine = pamr(images, resize_maps(few, (images.shape[-2], images.shape[-1])))
    back = _minmax(F.adaptive_avg_pool2d(fine, (words.shape[-2], words.shape[-1])))
    back = back * selected.gather(1, order)[..., None, None]
    places = order[..., None, None].expand_as(back)
    return torch.zeros_like(words).scatter_(1, places, back.to(words))


def _scores(embedded: Embedded, maps: Maps, texts: TextBatch, scorer: str) -> Tensor:
    """Raw scores of the words [B, K]: nearest pixel, whole image, both, or whole caption."""
    if scorer == "pixel":
        return maps.words.flatten(2).amax(2)
    if scorer == "pixel+image":
        pixel, image = (_scores(embedded, maps, texts, name) for name in ("pixel", "image"))
        return (pixel + image) / 2
    against = embedded.pooled if scorer == "image" else embedded.captions
    own = embedded.words[texts.index.to(embedded.words.device)]
    return torch.einsum("bkd,bd->bk", own, against)
