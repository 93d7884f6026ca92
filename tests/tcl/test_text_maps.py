"""Masks of all texts in groups: the same numbers and gradients as all masks at once."""

import pytest
import torch
import torch.nn.functional as F

from core.tcl import text_maps as module
from core.tcl.losses import pool, variation_of_maps
from core.tcl.text_maps import groups, lengths_of, mask_logits, text_maps


def case(dtype=torch.float64):
    """Pixels [3, 8, 4, 5], unit texts [6, 8], w, b, weights of the three results [3, 3, 6]."""
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(3, 8, 4, 5, generator=generator).to(dtype).requires_grad_()
    texts = F.normalize(torch.randn(6, 8, generator=generator), dim=-1).to(dtype)
    numbers = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in (10.0, -2.5)]
    return pixels, texts, numbers, torch.randn(3, 3, 6, generator=generator).to(dtype)


def gradients(maps, weights, wanted):
    total = sum((one * weight).sum() for one, weight in zip(maps, weights, strict=True))
    return torch.autograd.grad(total, wanted)


def plain(pixels, texts, numbers):
    """All masks at once, in one graph of torch's own functions."""
    masks = torch.sigmoid(mask_logits(pixels, lengths_of(pixels), texts, *numbers))
    agreement = (pool(pixels, masks) * texts).sum(-1)
    return agreement, masks.mean((-2, -1)), variation_of_maps(masks)


@pytest.mark.parametrize("budget", [1, 40, 120, 250, 10**6])
@pytest.mark.parametrize("chunk", [None, 0, 4])
def test_groups_change_neither_values_nor_gradients(monkeypatch, budget, chunk):
    monkeypatch.setattr(module, "BUDGET", {"cpu": budget})
    pixels, texts, numbers, weights = case()
    got = text_maps(pixels, lengths_of(pixels), texts, tuple(numbers), chunk)
    want = plain(pixels, texts, numbers)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    wanted = [pixels, *numbers]
    pairs = zip(gradients(got, weights, wanted), gradients(want, weights, wanted), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_pixels_and_masks_of_nothing_have_finite_gradients():
    pixels, texts, numbers, weights = case()
    with torch.no_grad():
        pixels[0] = 0
        numbers[1].fill_(-800.0)  # masks are 0
    maps = text_maps(pixels, lengths_of(pixels), texts, tuple(numbers))
    assert maps.agreement.abs().max() < 1e-3 and maps.area.abs().max() < 1e-3
    for one in gradients(maps, weights, [pixels, *numbers]):
        assert one.isfinite().all()


@pytest.mark.parametrize("factor", [1e-6, 1.0, 65536.0])
@pytest.mark.parametrize(("kind", "allowed"), [(torch.float16, 0.01), (torch.bfloat16, 0.08)])
def test_half_types_keep_their_digits_whatever_the_size_of_gradients(kind, allowed, factor):
    """Loss scaling makes gradients large, the means over a large batch make them small."""
    pixels, texts, numbers, weights = case(torch.float32)
    want = gradients(plain(pixels, texts, numbers), weights, [pixels])[0]
    with torch.autocast("cpu", kind):
        maps = text_maps(pixels, lengths_of(pixels), texts, tuple(numbers))
    (got,) = gradients(maps, factor * weights, [pixels])
    assert (got / factor - want).abs().max() < allowed * want.abs().max()


def test_groups_cover_every_image_and_text_once():
    for chunk, budget in ((None, 1), (None, 30), (None, 100), (5, 1), (0, 1)):
        seen = torch.zeros(7, 12, dtype=torch.int64)
        for rows, columns in groups(7, 12, 4, chunk, budget):
            seen[rows, columns] += 1
            size = seen[rows, columns].numel() * 4
            assert size <= max(budget, 4) or chunk is not None
        assert (seen == 1).all()
