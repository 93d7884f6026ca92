"""Box arithmetic: corners and centres, IoU and generalized IoU.

Boxes are float tensors [..., 4]. "xyxy": left, top, right, bottom; "cxcywh": centre, width, height.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-16  # added to the union, as CLIP-VG does


def to_corners(boxes: Tensor) -> Tensor:
    """cxcywh [..., 4] -> xyxy [..., 4]."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """xyxy [..., 4] -> cxcywh [..., 4]."""
    left, top, right, bottom = boxes.unbind(-1)
    middle = [(left + right) / 2, (top + bottom) / 2]
    return torch.stack([*middle, right - left, bottom - top], dim=-1)


def area(boxes: Tensor) -> Tensor:
    """xyxy [..., 4] -> width times height [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of pairs: xyxy [..., 4] twice -> [...] in [0, 1]; of points 0."""
    inter, union = _overlap(first, second)
    return inter / (union + EPS)


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalized IoU of pairs: xyxy [..., 4] twice -> [...] in [-1, 1].

    IoU minus the share of the smallest enclosing box that neither covers (Rezatofighi et al.,
    CVPR 2019). Where the enclosing box has no area the result is that of two points, 0.
    """
    inter, union = _overlap(first, second)
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    hull = (high - low).prod(-1)
    return inter / (union + EPS) - (hull - union) / (hull + EPS)


def _overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and union [...]."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    return inter, area(first) + area(second) - inter
