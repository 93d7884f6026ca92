"""What the loss needs of B x N masks, without ever holding them: group by group, made twice.

[B, N, h, w] of the published recipe is 822 MB in float32 per tensor, and a plain graph keeps ten
of them. Here a group of images and texts at a time is reduced to three numbers per image and text;
its masks are made again in the backward pass, whose formulas are written out, so values and
gradients are exact. A group's few tensors are overwritten in place and stay in the caches: that
saves more time than making the masks twice costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..backbones.base import EPS
from ..backbones.layers import at_least_float32
from .losses import variation_of_maps

# Values of one map tensor of a group
BUDGET = {"cpu": 2**20, "cuda": 2**23}


class TextMaps(NamedTuple):
    """Of every image and text, [B, N] each.

    agreement: <p[i, j], t_j>, the image pooled by the text's mask with the text; area: mean of
    the mask; variation: its total variation.
    """

    agreement: Tensor
    area: Tensor
    variation: Tensor


def text_maps(
    pixels: Tensor,
    lengths: Tensor,
    texts: Tensor,
    sim2mask: tuple[Tensor, Tensor],
    chunk: int | None = None,
) -> TextMaps:
    """`TextMaps` of the masks sigmoid(w s + b), s the cosine of pixel and text.

    Products of matrices are in autocast's type where that is on, all else in that of `pixels`.

    Args:
        pixels: e [B, D, h, w], not normalized; lengths: |e| of `lengths_of`, [B, 1, h, w].
        texts: [N, D] of unit length, without gradient.
        sim2mask: the learned w and b.
        chunk: texts at a time, of all images; None: images and texts as `BUDGET` allows; 0: all.
    """
    return TextMaps(*_TextMaps.apply(pixels, lengths, texts, *sim2mask, chunk))


def lengths_of(pixels: Tensor) -> Tensor:
    """max(|e|, 1e-6) of pixels e [B, D, h, w] -> [B, 1, h, w]."""
    lengths: Tensor = torch.linalg.vector_norm(at_least_float32(pixels), dim=1, keepdim=True)
    return lengths.clamp_min(EPS)


def mask_logits(pixels: Tensor, lengths: Tensor, texts: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """w s + b, s = <t, e> / |e|: pixels [B, D, h, w], unit texts [K, D] -> [B, K, h, w].

    The cosines are divided rather than the pixels: their gradient needs no second [B, D, h, w].
    """
    products = torch.matmul(texts, pixels.flatten(2))  # [B, K, h * w]
    cosines = at_least_float32(products).view(*products.shape[:2], *pixels.shape[-2:]) / lengths
    return w * cosines + b


def groups(
    images: int, texts: int, cells: int, chunk: int | None, budget: int
) -> Iterator[tuple[slice, slice]]:
    """Images and texts of one group after the other, their maps having `cells` values each.

    Whole rows of texts where they fit: fewer and larger products of matrices.
    """
    columns = min(texts, max(1, budget // cells) if chunk is None else chunk or texts)
    rows = images if chunk is not None else min(images, max(1, budget // (cells * columns)))
    for row in range(0, images, rows):
        for column in range(0, texts, columns):
            yield slice(row, row + rows), slice(column, column + columns)


class _TextMaps(torch.autograd.Function):
    """`text_maps`. Letters: a group has g images, k texts, S cells; M [g, k, S] are its masks."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        pixels: Tensor,
        lengths: Tensor,
        texts: Tensor,
        w: Tensor,
        b: Tensor,
        chunk: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Agreement, area and variation [B, K] of pixels [B, D, h, w] with texts [K, D]."""
        kind = _product_type(pixels)
        x, t = pixels.detach().to(kind).flatten(2), texts.to(kind)
        size = (len(pixels), len(texts))
        pooled = x.new_empty(*size, x.shape[1], dtype=pixels.dtype)  # p: of unit length
        norms, sums, variation = (pixels.new_empty(size) for _ in range(3))
        of_group = list(groups(*size, x.shape[-1], chunk, BUDGET.get(x.device.type, 2**23)))
        with torch.autocast(x.device.type, enabled=False):
            for rows, columns in of_group:
                masks = _masks(_cosines(t[columns], x[rows], lengths[rows]), w, b)
                variation[rows, columns] = variation_of_maps(_as_maps(masks, pixels))
                found = _pool_(masks, x[rows])
                pooled[rows, columns], norms[rows, columns], sums[rows, columns] = found
        agreement = (pooled * texts).sum(-1)
        ctx.save_for_backward(pixels, lengths, texts, w, b, pooled, norms, sums, agreement)
        ctx.of_group, ctx.kind = of_group, kind
        return agreement, sums / x.shape[-1], variation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Their gradients by hand, from those of the three [B, K]; the maps are made again."""
        pixels, lengths, texts, w, b, pooled, norms, sums, agreement = ctx.saved_tensors
        by_agreement, by_area, by_variation = above
        x, t = pixels.detach().to(ctx.kind).flatten(2), texts.to(ctx.kind)
        cells = x.shape[-1]
        # Of P = sum M e / (sum M + eps) with |P| kept off 0; p = P / |P|
        factors = by_agreement / (norms * (sums + EPS))
        inside = (norms > EPS).to(agreement) * agreement
        level = by_area / cells - (agreement - inside) * norms * factors
        to_pixels = torch.zeros_like(x, dtype=pixels.dtype)
        to_lengths, to_b = torch.zeros_like(lengths), torch.zeros_like(b)
        with torch.autocast(x.device.type, enabled=False):
            for rows, columns in ctx.of_group:
                here = rows, columns
                cosines = _cosines(t[columns], x[rows], lengths[rows])
                masks = _masks(cosines.clone(), w, b)
                aim = texts[columns] - inside[here][..., None] * pooled[here]  # [g, k, D]
                aim *= factors[here][..., None]
                slopes = _product(aim, x[rows]).add_(level[here][..., None])
                changes, maps = _as_maps(slopes, pixels), _as_maps(masks, pixels)
                _add_variation_slopes_(changes, maps, by_variation[here])
                _add_product_(to_pixels[rows], aim.mT, masks, ctx.kind)
                slopes.mul_(masks).mul_(masks.neg_().add_(1))  # of the logits
                to_b += slopes.sum()
                to_lengths[rows] += cosines.mul_(slopes).sum(1).view_as(lengths[rows])
                slopes.mul_((w / lengths[rows]).flatten(2))
                _add_product_(to_pixels[rows], t[columns].mT, slopes, ctx.kind)
        to_w = to_lengths.sum()
        to_lengths *= -w / lengths
        return to_pixels.view_as(pixels), to_lengths, None, to_w, to_b, None


def _product_type(pixels: Tensor) -> torch.dtype:
    """Autocast's where it is on, else that of the pixels."""
    device = pixels.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return pixels.dtype


def _as_maps(values: Tensor, pixels: Tensor) -> Tensor:
    """[g, k, h * w] -> [g, k, h, w], the same memory."""
    return values.view(*values.shape[:2], *pixels.shape[-2:])


def _cosines(texts: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
    """Texts [k, D], pixels [g, D, S], lengths [g, 1, h, w] -> [g, k, S] in the lengths' type."""
    return torch.matmul(texts, x).to(lengths.dtype).div_(lengths.flatten(2))


def _masks(cosines: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """sigmoid(w s + b), written over the cosines."""
    return cosines.mul_(w).add_(b).sigmoid_()


def _pool_(masks: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [g, D, S] pooled by masks [g, k, S], which are overwritten.

    Returns: directions [g, k, D] of unit length, lengths before [g, k], sums of the masks [g, k].
    """
    sums = masks.sum(-1)
    # Half types: weights near 1 / cells would be subnormal, sums of unweighted values too large.
    lift = masks.shape[-1] ** 0.5
    masks.mul_((lift / (sums + EPS))[..., None])
    pooled = torch.matmul(masks.to(x.dtype), x.mT).to(masks.dtype).div_(lift)
    norms = torch.linalg.vector_norm(pooled, dim=-1).clamp_min(EPS)
    return pooled.div_(norms[..., None]), norms, sums


def _add_variation_slopes_(slopes: Tensor, maps: Tensor, factors: Tensor) -> None:
    """Add factors [g, k] times the gradients of `variation_of_maps` of maps [g, k, h, w]."""
    for dim in (-1, -2):
        steps = maps.diff(dim=dim).sign_()
        steps *= (factors / (steps.shape[-1] * steps.shape[-2]))[..., None, None]
        slopes.narrow(dim, 1, steps.shape[dim]).add_(steps)
        slopes.narrow(dim, 0, steps.shape[dim]).sub_(steps)


def _product(small: Tensor, x: Tensor) -> Tensor:
    """[g, k, D] times [g, D, S] of another type, in that of x -> [g, k, S] in the first's type.

    Half types: gradients are brought to their range first, and back afterwards.
    """
    if small.dtype == x.dtype:
        return torch.matmul(small, x)
    scale = _largest(small)
    return torch.matmul((small / scale).to(x.dtype), x).to(small.dtype).mul_(scale)


def _add_product_(total: Tensor, left: Tensor, right: Tensor, kind: torch.dtype) -> None:
    """total [g, D, S] += left [(g,) D, k] @ right [g, k, S], the product in a type of its own."""
    left = left.expand(len(right), *left.shape[-2:])
    if total.dtype == kind:
        total.baddbmm_(left, right)
        return
    scales = _largest(left), _largest(right)
    halves = [(part / scale).to(kind) for part, scale in zip((left, right), scales, strict=True)]
    # k products below 1 each: far from what float16 can hold
    total.add_(torch.bmm(*halves).to(total.dtype).mul_(scales[0] * scales[1]))


def _largest(values: Tensor) -> Tensor:
    """The largest magnitude, 1 where all are 0: float32 scalar on the device."""
    top = values.abs().amax().float()
    return torch.where(top > 0, top, torch.ones_like(top))
