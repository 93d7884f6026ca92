"""Text-Tag Self-Distillation as pure functions: what a batch's pixels and texts are pulled towards.

    texts = gather_texts(captions)
    student = embed(backbone, images, texts)         # one image pass, one text pass, with gradient
    losses = ttd_loss(student, texts, config, mask)  # targets from the student itself, no gradient
    losses.total.backward()

For a caption with words k and similarity maps S (cosines, [-1, 1]), N = min-max over the map's own
pixels: selected words M_k = N(S_k), rejected words M_k = 0, union U = max_k M_k per pixel;
L_distill = d(S_T, U), L_tag = d(S_k, M_k), mean over pixels, then over the words of a caption, then
over captions; L = L_distill + tag_weight * L_tag + rank_weight * L_rank + anchor_weight * L_anchor.
Source: TTD (ECCV 2024), overview figure; d, L_rank, L_anchor, the teachers and the refinement of
targets along the image's edges are decisions of this project.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TTDError
from ..refine.pamr import PAMR
from ..training.losses import info_nce
from .calibration import Choice
from .config import DistillConfig
from .embedding import Embedded, Maps, TextBatch, nearest_to_others, similarity_maps
from .targets import Targets, keep_unsure, make_targets


@dataclass(frozen=True)
class Losses:
    """Scalars: the total, and its parts before they are weighted.

    maps, targets: what they were computed from.
    """

    total: Tensor
    distill: Tensor
    tag: Tensor
    ranking: Tensor
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
    everyone: tuple[Tensor, Tensor] | None = None,
    choice: Choice | None = None,
    logit_scale: float = 100.0,
    images: Tensor | None = None,
    pamr: PAMR | None = None,
) -> Losses:
    """The loss of a batch of B captions.

    Args:
        mask: a, b of the backbone's soft mask, for distance `bce` and stretch `mask`.
        teacher: whose maps give targets and selection; None is the student itself (teacher
        `current`).
        base: the frozen base's embeddings of the same batch, for anchor `frozen` and a choice.
        everyone: pooled images and captions [N, D] of the batch over all processes, for anchor
        `contrastive`; None: the student's own.
        choice: what a calibration says of the words; None: the teacher chooses.
        logit_scale: CLIP's temperature, for norm `softmax` and anchor `contrastive`.
        images: the batch [B, 3, H, W], for `refine`. pamr: the run's own, which knows how many
        images there will be.

    A caption that does not teach counts with 0, so that the mean over the captions of a
    batch is the mean of the means of its equal parts (gradient accumulation, several processes).
    """
    maps = similarity_maps(student, texts)
    targets = make_targets(
        teacher or student,
        texts,
        config,
        mask,
        choice=choice,
        logit_scale=logit_scale,
        images=images,
        pamr=pamr,
    )
    slope = (config.sharpness * mask[0], mask[1])
    if choice is not None:
        if base is None:
            raise TTDError("a choice of words needs the base's embeddings: base=")
        targets = keep_unsure(targets, choice, as_targets(base, texts, config.distance, slope))
    distill, tag = distillation(maps, targets, texts.valid, config.distance, slope)
    ranked = torch.zeros_like(distill)
    if config.rank_weight:
        ranked = _ranked(student, texts, maps, choice, slope[0])
    anchor = torch.zeros_like(distill)
    if config.anchor_weight and config.anchor == "contrastive":
        anchor = _contrastive(student, everyone, logit_scale)
    elif config.anchor_weight:
        anchor = _frozen(student, base, texts)
    total = distill + config.tag_weight * tag
    total = total + config.rank_weight * ranked + config.anchor_weight * anchor
    return Losses(total, distill, tag, ranked, anchor, maps, targets)


def distillation(
    maps: Maps, targets: Targets, valid: Tensor, distance: str, mask: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """L_distill and L_tag, scalars; valid bool [B, K].

    Mean over pixels, then over the valid words of a caption, then over captions.
    """
    valid = valid.to(maps.words.device)
    used = targets.teaches  # [B]
    words = pixel_distance(maps.words, targets.words, distance, mask)  # [B, K]
    words = (words * valid).sum(1) / valid.sum(1).clamp(min=1)
    captions = pixel_distance(maps.captions, targets.union, distance, mask)
    return (captions * used).mean(), (words * used).mean()


def ranking(words: Tensor, others: Tensor, choice: Choice, slope: float) -> Tensor:
    """L_rank, a scalar: words that an image does not show have their nearest pixels lower.

    words [B, K, h, w]: maps of the captions' own words; others [B, R]: cosines of the nearest
    pixels with words of other captions. softplus(slope (other - shown)), mean over the pairs of a
    caption, then over captions: the pairwise logistic loss (RankNet, Burges et al., 2005). Without
    it a student learns what is true of nearly all nouns of captions, that they are shown; and
    pushing the others down alone would take all maps along.
    """
    shown = words.flatten(2).amax(2)  # [B, K]
    excess = F.softplus(slope * (others[:, None] - shown[..., None]))  # [B, K, R]
    pairs = choice.selected[..., None] & choice.absent[:, None]
    return ((excess * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


def _ranked(
    student: Embedded, texts: TextBatch, maps: Maps, choice: Choice | None, slope: float
) -> Tensor:
    if choice is None or not len(texts.others):
        raise TTDError("rank_weight needs a choice of words, and words of other captions")
    return ranking(maps.words, nearest_to_others(student, texts), choice, slope)


def as_targets(base: Embedded, texts: TextBatch, distance: str, mask: tuple[float, float]) -> Maps:
    """The base's maps as the targets that a student with the same maps has reached."""
    maps = similarity_maps(base, texts)
    if distance != "bce":
        return maps
    a, b = mask
    return Maps(torch.sigmoid(a * (maps.words - b)), torch.sigmoid(a * (maps.captions - b)))


def pixel_distance(
    maps: Tensor, targets: Tensor, distance: str, mask: tuple[float, float]
) -> Tensor:
    """d between cosine maps and targets in [0, 1], both [..., h, w] -> mean over pixels [...]."""
    if distance == "bce":
        a, b = mask
        values = F.binary_cross_entropy_with_logits(a * (maps - b), targets, reduction="none")
        return values.mean((-2, -1))
    difference = maps - targets
    values = difference.abs() if distance == "l1" else difference.square()
    return values.mean((-2, -1))


def _contrastive(
    student: Embedded, everyone: tuple[Tensor, Tensor] | None, logit_scale: float
) -> Tensor:
    if everyone is not None:
        return info_nce(*everyone, logit_scale)
    if student.pooled is None:
        raise TTDError("anchor 'contrastive' needs pooled image embeddings: embed with pooled=True")
    return info_nce(student.pooled, student.captions, logit_scale)


def _frozen(student: Embedded, base: Embedded | None, texts: TextBatch) -> Tensor:
    """1 - mean cosine with the base, over pixels, words and captions; words within captions first.

    A regulariser against collapse (ours).
    """
    if base is None:
        raise TTDError("anchor 'frozen' needs the frozen base's embeddings of the batch: pass base")
    valid = texts.valid.to(student.words.device)
    words = (student.words * base.words).sum(-1)[texts.index.to(valid.device)]  # [B, K]
    means = (words * valid).sum(1) / valid.sum(1).clamp(min=1)
    words = torch.where(valid.any(1), means, 1.0)  # a caption without words has not moved
    pixels = (student.pixels * base.pixels).sum(1)
    captions = (student.captions * base.captions).sum(-1)
    return 1 - torch.stack([pixels.mean(), words.mean(), captions.mean()]).mean()
