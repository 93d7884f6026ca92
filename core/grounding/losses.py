"""CLIP-VG's loss, L1 and generalized IoU one to one, and the IoU that its accuracy is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from . import boxes


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
