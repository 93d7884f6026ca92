"""Box arithmetic against counted pixels, and GIoU against torchvision."""

import numpy as np
import pytest
import torch
from torchvision.ops import generalized_box_iou, generalized_box_iou_loss

from core.grounding import boxes
from core.grounding.losses import attention_loss, box_iou, box_losses, coverage


def random_boxes(count, seed, size=20):
    draw = np.random.default_rng(seed)
    corners = np.sort(draw.integers(0, size + 1, (count, 2, 2)), axis=1)
    return torch.tensor(corners.reshape(count, 4), dtype=torch.float64)


def painted(box, size=20):
    left, top, right, bottom = (int(v) for v in box)
    area = np.zeros((size, size), bool)
    area[top:bottom, left:right] = True
    return area


def test_iou_and_giou_are_counted_pixels():
    first, second = random_boxes(300, 0), random_boxes(300, 1)
    ious, gious = boxes.iou(first, second), boxes.giou(first, second)
    for a, b, got, generalized in zip(first, second, ious, gious, strict=True):
        one, two = painted(a), painted(b)
        union = (one | two).sum()
        want = (one & two).sum() / union if union else 0.0
        assert got == pytest.approx(want, abs=1e-9)
        low, high = torch.minimum(a, b)[:2], torch.maximum(a, b)[2:]
        hull = painted(torch.cat([low, high])).sum()
        if hull:
            assert generalized == pytest.approx(want - (hull - union) / hull, abs=1e-9)


def test_giou_is_torchvisions():
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.rand(50, 4, generator=draw) + 0.01 for _ in range(2))
    first, second = boxes.to_corners(first), boxes.to_corners(second)
    got = boxes.giou(first, second)
    assert torch.allclose(got, generalized_box_iou(first, second).diagonal(), atol=1e-6)


def test_corners_and_centres_are_inverse():
    centres = torch.tensor([[0.5, 0.4, 0.2, 0.6]])
    corners = boxes.to_corners(centres)
    assert torch.allclose(corners, torch.tensor([[0.4, 0.1, 0.6, 0.7]]))
    assert torch.allclose(boxes.to_centres(corners), centres)


def test_losses_by_hand_and_by_torchvision():
    predicted = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.4, 0.2]], requires_grad=True)
    target = torch.tensor([[0.6, 0.5, 0.2, 0.4], [0.3, 0.3, 0.4, 0.2]])
    losses = box_losses(predicted, target)
    assert losses["l1"].item() == pytest.approx((0.1 + 0.2) / 2, abs=1e-6)
    corners = boxes.to_corners(predicted), boxes.to_corners(target)
    want = generalized_box_iou_loss(*corners, reduction="mean")
    assert losses["giou"].item() == pytest.approx(want.item(), abs=1e-5)
    assert losses["loss"].item() == pytest.approx((losses["l1"] + losses["giou"]).item())
    losses["loss"].backward()
    assert predicted.grad[0].abs().sum() > 0


def test_accuracy_cuts_predictions_to_the_canvas():
    """Half of the prediction lies outside: what is left is the true box."""
    predicted = torch.tensor([[0.0, 0.5, 0.4, 0.5]])
    target = torch.tensor([[0.1, 0.5, 0.2, 0.5]])
    assert box_iou(predicted, target).item() == pytest.approx(1.0, abs=1e-6)
    far = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert box_iou(far, far).item() == 0.0


def test_coverage_is_counted_pixels():
    """Boxes of whole pixels on a canvas of 20, patches of 5 pixels."""
    corners = random_boxes(50, 2)
    got = coverage(boxes.to_centres(corners) / 20, 4)
    for box, shares in zip(corners, got, strict=True):
        want = painted(box).reshape(4, 5, 4, 5).mean((1, 3))
        assert np.allclose(shares.reshape(4, 4), want, atol=1e-9)


def test_attention_loss_by_hand():
    """A box over the right half of 2 x 2 patches; one over a whole and half a patch."""
    target = torch.tensor([[0.75, 0.5, 0.5, 1.0], [0.375, 0.25, 0.75, 0.5]])
    attention = torch.tensor([[0.1, 0.4, 0.1, 0.4], [0.5, 0.25, 0.0, 0.0]], requires_grad=True)
    first = -np.log(0.4)
    second = -(2 * np.log(0.5) + np.log(0.25)) / 3
    loss = attention_loss(attention, target)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)
    loss.backward()
    assert (attention.grad[0, [1, 3]] < 0).all() and attention.grad[0, 0] == 0
    outside = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert attention_loss(attention[:1], outside).item() == 0
