"""CLIP-VG's loss, L1 and generalized IoU one to one, and the IoU that its accuracy is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import boxes

LEAST = 1e-6  # attention below it counts as this: its logarithm stays finite


def box_losses(predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The losses of a batch of boxes.

    Args: predicted, target: cxcywh [B, 4] in [0, 1], relative to the canvas.
    Returns: scalars. `l1`: sum over the four coordinates, mean over the batch; `giou`: mean of
        1 - GIoU; `loss`: their sum.
    """
    l1 = (predicted - target).abs().sum() / len(predicted)
    pairs = boxes.giou(boxes.to_corners(predicted), boxes.to_corners(target))
    giou = (1 - pairs).sum() / len(predicted)
    return {"loss": l1 + giou, "l1": l1, "giou": giou}


@torch.no_grad()
def box_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """IoU [B] of predicted and true cxcywh boxes [B, 4]; predictions are cut to the canvas."""
    corners = boxes.to_corners(predicted).clamp(0, 1)
    return boxes.iou(corners, boxes.to_corners(target))


def coverage(target: Tensor, side: int) -> Tensor:
    """How much of each patch a box covers.

    Args: target: cxcywh [B, 4] in [0, 1], relative to the canvas; side: patches of one side.
    Returns: [B, side * side] in [0, 1], row-major.
    """
    left, top, right, bottom = boxes.to_corners(target).mul(side).unbind(-1)
    low = torch.arange(side, device=target.device, dtype=target.dtype)
    columns = _overlap(low, left[:, None], right[:, None])
    rows = _overlap(low, top[:, None], bottom[:, None])
    return (rows[:, :, None] * columns[:, None]).flatten(1)


def _overlap(low: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Length of [low, low + 1] within [first, last]: [side] and [B, 1] twice -> [B, side]."""
    return (torch.minimum(last, low + 1) - torch.maximum(first, low)).clamp(min=0)


def attention_loss(attention: Tensor, target: Tensor) -> Tensor:
    """Cross entropy between REG's attention and the even distribution over the true box.

    Ours, not published: it tells the last layer where to look, patch by patch, while a box alone
    tells it four numbers. A box that covers nothing of the canvas counts 0.

    Args: attention [B, P] in [0, 1], of REG to the square grid of patches, its sum at most 1;
        target: cxcywh [B, 4] in [0, 1], relative to the canvas.
    Returns: scalar, mean over the batch; 0 at best only for boxes within one patch.
    """
    covered = coverage(target, math.isqrt(attention.shape[1]))
    wanted = covered / covered.sum(1, keepdim=True).clamp(min=LEAST)
    return -(wanted * attention.clamp(min=LEAST).log()).sum(1).mean()
