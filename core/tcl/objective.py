"""TCL's whole loss of a batch: `tcl_loss(backbone, images, texts, config)`.

backbone = load_backbone("TCL", weights="tcl.pth")
trained = trained_parameters(backbone)              # by their names in a checkpoint
losses, masks = tcl_loss(backbone, images, captions, LossConfig())
sum(losses.values()).backward()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import EPS
from ..backbones.layers import at_least_float32
from ..backbones.tcl.model import Learned, TCLBackbone
from ..errors import TTDError
from ..training.distributed import Ranks
from . import losses as terms
from .config import LossConfig
from .text_maps import lengths_of, mask_logits, text_maps


@dataclass(frozen=True)
class Shared:
    """What a batch's terms have in common.

    texts: of all processes [N, D], of unit length; own: this process's B of them.
    """

    texts: Tensor
    own: slice
    ranks: Ranks
    config: LossConfig
    learned: Learned


def tcl_loss(
    backbone: TCLBackbone,
    images: Tensor,
    texts: Sequence[str] | Tensor,
    config: LossConfig,
    *,
    ranks: Ranks | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The weighted terms of TCL's loss over the batch of all processes, and the positive masks.

    The loss is the sum of the terms. With several processes each returns its share: the mean over
    the processes of losses and of gradients is that of the whole batch.

    Args:
        backbone: a TCL; `backbone.learned` (w, b and both temperatures) is made where it is None.
        images: this process's [B, 3, H, W], normalized, H and W multiples of the patch.
        texts: their B captions, or embeddings [B, D] of them, not normalized.
        config: weights and targets.
        ranks: the processes; None: this one alone.
        generator: of the Gumbel noise, the same in every process; None: torch's own.
        noise: uniform noise in [0, 1) [B, 1, h, w] instead of a generator's.

    Returns:
        the terms by the names that TCL logs: `area_loss`, `neg_area_loss`, `tclf_loss`,
        `tcli_loss`, `tv_img_loss`, `tv_mask_loss`, float32 scalars; soft positive masks
        [B, 1, h, w], without gradient.

    TTDError: images and texts that do not go together, a batch of one pair.
    Source: CVPR 2023, section 3 and the released configuration.
    """
    ranks = ranks or Ranks()
    _check(images, texts, ranks, backbone.patch)
    learned = backbone.make_trainable()
    shared = _shared(_encoded(backbone, texts), ranks, config, learned)
    images = images.to(backbone.device, backbone.dtype)
    pixels = at_least_float32(backbone.encode_pixels(images))
    lengths = lengths_of(pixels)
    mine = shared.texts[shared.own]
    logits = _own_logits(pixels, lengths, mine, learned)
    values = _text_terms(pixels, lengths, torch.sigmoid(logits), shared)
    if noise is None:
        noise = draw_noise(logits.shape, ranks, generator).to(logits.device)
    hard = terms.gumbel_mask(logits, noise, config.tau)
    values["tcli_loss"] = _image_term(backbone, images, hard, shared)
    values["tv_img_loss"] = terms.total_variation(pixels)
    weights = config.weights
    named = {name: weights[name] * values[name] for name in weights}
    return named, torch.sigmoid(logits).detach()


def draw_noise(
    shape: Sequence[int], ranks: Ranks, generator: torch.Generator | None = None
) -> Tensor:
    """This process's rows [B, 1, h, w] of uniform noise [N, 1, h, w], on the generator's device.

    Every process draws the noise of all, so that a pair's noise does not depend on their number.
    """
    rows, *rest = shape
    device = "cpu" if generator is None else generator.device
    whole = torch.rand(ranks.world * rows, *rest, generator=generator, device=device)
    return whole[ranks.rank * rows : (ranks.rank + 1) * rows]


def _check(images: Tensor, texts: Sequence[str] | Tensor, ranks: Ranks, patch: int) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise TTDError(f"images must be [B, 3, H, W], got {tuple(images.shape)}")
    if images.shape[2] % patch or images.shape[3] % patch:
        raise TTDError(
            f"images of {images.shape[3]} x {images.shape[2]} pixels: both sides must be multiples "
            f"of the patch, {patch}"
        )
    if len(texts) != len(images):
        raise TTDError(f"{len(images)} images and {len(texts)} texts: one text for each is needed")
    if ranks.world * len(images) < 2:
        raise TTDError("TCL's loss compares pairs with each other: a batch needs at least two")


@torch.no_grad()
def _encoded(backbone: TCLBackbone, texts: Sequence[str] | Tensor) -> Tensor:
    """Embeddings [B, D] of unit length."""
    if not isinstance(texts, Tensor):
        texts = backbone.encode_text(texts)
    return F.normalize(at_least_float32(texts.to(backbone.device)), dim=-1, eps=EPS)


def _shared(mine: Tensor, ranks: Ranks, config: LossConfig, learned: Learned) -> Shared:
    own = slice(ranks.rank * len(mine), (ranks.rank + 1) * len(mine))
    with torch.no_grad():
        texts = ranks.all_gather(mine)
    return Shared(texts, own, ranks, config, learned)


def _own_logits(pixels: Tensor, lengths: Tensor, mine: Tensor, learned: Learned) -> Tensor:
    """Mask logits of every image for its own text: [B, D, h, w], [B, D] -> [B, 1, h, w]."""
    similarity = (pixels * mine[:, :, None, None]).sum(1, keepdim=True) / lengths
    return learned.w * similarity + learned.b


def _text_terms(
    pixels: Tensor, lengths: Tensor, positive: Tensor, shared: Shared
) -> dict[str, Tensor]:
    """Area, negative area, feature-level loss and the masks' total variation."""
    config, learned = shared.config, shared.learned
    sim2mask = (learned.w, learned.b)
    maps = text_maps(pixels, lengths, shared.texts, sim2mask, config.chunk)
    areas = torch.stack([positive.mean(), _negative(maps.area, shared.own.start)])
    if not config.parity:  # of the whole batch; the released code takes each process's own
        areas = shared.ranks.all_gather(areas[None]).mean(0)
    scale = terms.temperature(learned.tclf)
    if config.parity and shared.ranks.world > 1:
        pooled = _own_pooled(pixels, lengths, shared)
        texts, own = shared.texts, shared.own
        tclf = terms.feature_level_loss_as_released(maps.agreement, pooled, texts, own, scale)
    else:
        everyone = shared.ranks.all_gather(maps.agreement)  # [N, N]
        tclf = terms.feature_level_loss(maps.agreement, everyone, shared.own, scale)
    return {
        "area_loss": terms.area_loss(areas[0], config.area),
        "neg_area_loss": terms.area_loss(areas[1], config.neg_area),
        "tclf_loss": tclf,
        "tv_mask_loss": maps.variation.mean(),
    }


def _negative(area: Tensor, offset: int) -> Tensor:
    """Mean of areas [B, N] over the texts of other images."""
    rows = torch.arange(len(area), device=area.device)
    others = torch.ones_like(area, dtype=torch.bool)
    others[rows, rows + offset] = False
    return area[others].mean()


def _own_pooled(pixels: Tensor, lengths: Tensor, shared: Shared) -> Tensor:
    """Images pooled by the masks of their own process's texts, of all processes: [N, B, D]."""
    learned = shared.learned
    logits = mask_logits(pixels, lengths, shared.texts[shared.own], learned.w, learned.b)
    return shared.ranks.all_gather(terms.pool(pixels, torch.sigmoid(logits)))


def _image_term(backbone: TCLBackbone, images: Tensor, hard: Tensor, shared: Shared) -> Tensor:
    """The image-level loss: the frozen CLIP's class-token path sees the masked images."""
    seen = backbone.encode_image(terms.masked_images(images, hard.to(images)))
    mine = F.normalize(at_least_float32(seen), dim=-1, eps=EPS)
    scale = terms.temperature(shared.learned.tcli)
    everyone = shared.ranks.all_gather(mine)
    return terms.image_level_loss(mine, shared.texts, shared.own, scale, everyone)
