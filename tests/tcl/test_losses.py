"""The terms of TCL's loss one by one: closed forms and numbers worked out by hand."""

import math

import pytest
import torch

from core.tcl import losses

HALF = torch.tensor([[0.0, 1.0], [0.0, 1.0]])


def test_total_variation_by_hand():
    maps = torch.tensor([[[1.0, 3.0, 0.0], [2.0, 2.0, 2.0]]])
    # across: |2|, |-3|, 0, 0 over 4; down: 1, 1, 2 over 3
    assert float(losses.total_variation(maps)) == pytest.approx(5 / 4 + 4 / 3)
    many = torch.stack([maps, torch.zeros_like(maps)])  # [2, 1, 2, 3]
    assert float(losses.total_variation(many)) == pytest.approx((5 / 4 + 4 / 3) / 2)
    assert losses.variation_of_maps(many).shape == (2, 1)


def test_area_is_a_distance_of_the_mean():
    assert float(losses.area_loss(torch.tensor(0.1), 0.4)) == pytest.approx(0.3)
    assert float(losses.area_loss(torch.tensor(0.7), 0.4)) == pytest.approx(0.3)


def test_temperature_stops_at_100():
    assert float(losses.temperature(torch.tensor(math.log(1 / 0.07)))) == pytest.approx(1 / 0.07)
    assert float(losses.temperature(torch.tensor(5.0))) == 100.0


def test_info_nce_of_hand_made_logits():
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    first = math.log(math.exp(2) + 3) - 2
    assert float(losses.info_nce(logits, logits)) == pytest.approx((first + math.log(4)) / 2)
    # From process 1 on, labels are 2 and 3.
    shifted = (math.log(math.exp(2) + 3) + math.log(4)) / 2
    assert float(losses.info_nce(logits, logits, 2)) == pytest.approx(shifted)
    other = torch.zeros(2, 4)
    mixed = ((first + math.log(4)) / 2 + math.log(4)) / 2
    assert float(losses.info_nce(logits, other)) == pytest.approx(mixed)


def test_gumbel_mask_is_hard_forward_and_soft_backward():
    logits = torch.tensor([0.3, -0.3, 4.0], dtype=torch.float64, requires_grad=True)
    uniform = torch.tensor([0.5, 0.5, 0.01], dtype=torch.float64)
    mask = losses.gumbel_mask(logits, uniform, tau=2.0)
    noise = math.log(0.01 / 0.99)
    assert mask.tolist() == pytest.approx([1, 0, 0 if 4 + noise < 0 else 1])
    mask.sum().backward()
    soft = [1 / (1 + math.exp(-x / 2)) for x in (0.3, -0.3, 4 + noise)]
    assert logits.grad.tolist() == pytest.approx([y * (1 - y) / 2 for y in soft])


def test_gumbel_noise_of_zero_and_near_one_is_finite_in_value_and_gradient():
    logits = torch.zeros(2, requires_grad=True)
    mask = losses.gumbel_mask(logits, torch.tensor([0.0, 1 - 2**-24]))
    mask.sum().backward()
    assert mask.tolist() == [0, 1] and torch.isfinite(logits.grad).all()


def test_gumbel_mask_is_on_as_often_as_the_soft_mask_says():
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    for probability in (0.1, 0.5, 0.8):
        logits = torch.full((20000,), math.log(probability / (1 - probability)))
        assert float(losses.gumbel_mask(logits, uniform).mean()) == pytest.approx(
            probability, abs=0.01
        )


def test_masks_are_enlarged_by_nearest():
    images = torch.ones(1, 3, 4, 4)
    seen = losses.masked_images(images, HALF[None, None])
    assert torch.equal(seen[0, 0], torch.tensor([[0.0, 0, 1, 1]] * 4))


def test_pooling_by_hand_and_of_an_empty_mask():
    pixels = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 3.0]]]])  # [1, 2, 2, 2]
    masks = torch.stack([torch.eye(2), HALF, torch.zeros(2, 2)])[None]  # [1, 3, 2, 2]
    pooled = losses.pool(pixels, masks)[0]
    assert pooled[0].tolist() == pytest.approx([7 / math.hypot(7, 3), 3 / math.hypot(7, 3)])
    assert pooled[1].tolist() == pytest.approx([0.8, 0.6])
    assert pooled[2].tolist() == [0, 0]


def test_image_level_logits_take_texts_one_way_and_images_the_other():
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    texts = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    loss = losses.image_level_loss(images, texts, slice(0, 2), torch.tensor(2.0))
    s = [[0, 1], [0.8, 0.6]]  # images by texts
    rows = [math.log(sum(math.exp(2 * x) for x in row)) - 2 * row[i] for i, row in enumerate(s)]
    columns = [
        math.log(math.exp(2 * s[0][j]) + math.exp(2 * s[1][j])) - 2 * s[j][j] for j in range(2)
    ]
    assert float(loss) == pytest.approx((sum(rows) + sum(columns)) / 4)


def test_feature_level_logits_of_a_text_are_a_column():
    a = torch.tensor([[1.0, -0.5, 0.2], [0.1, 0.3, 0.4], [0.0, 0.9, -0.2]])
    whole = float(losses.feature_level_loss(a, a, slice(0, 3), torch.tensor(3.0)))
    parts = [
        float(losses.feature_level_loss(a[i : i + 1], a, slice(i, i + 1), torch.tensor(3.0)))
        for i in range(3)
    ]
    assert whole == pytest.approx(sum(parts) / 3)
    by_hand = [
        math.log(sum(math.exp(3 * float(x)) for x in line)) - 3 * float(a[i, i])
        for i in range(3)
        for line in (a[i], a[:, i])
    ]
    assert whole == pytest.approx(sum(by_hand) / 6)
