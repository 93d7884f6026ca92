"""PAMR against the formula written as loops over single pixels in float64."""

import itertools
import math
import shutil

import pytest
import torch

from core.errors import TTDError
from core.refine.pamr import PAMR

MANY = 10**6  # images of a job that is worth compiling for
DILATIONS = (1, 2, 4, 8, 12, 24)

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def _clamped(maps, y, x):
    """maps [C][H][W] at (y, x), indices clamped to the image -> list of C values."""
    height, width = len(maps[0]), len(maps[0][0])
    return [m[min(max(y, 0), height - 1)][min(max(x, 0), width - 1)] for m in maps]


def _literal_weights(image, dilations):
    """Nested lists [C][H][W] -> {(y, x): [(y', x', alpha), ...]}, straight from the formula."""
    weights = {}
    for y in range(len(image[0])):
        for x in range(len(image[0][0])):
            centre = _clamped(image, y, x)
            steps = itertools.product(dilations, (-1, 0, 1), (-1, 0, 1))
            taps = [(y + a * d, x + b * d) for d, a, b in steps]
            values = [_clamped(image, *tap) for tap in taps]
            sigmas = []
            for c in range(len(image)):
                mean = sum(v[c] for v in values) / len(values)
                sigmas.append(
                    math.sqrt(sum((v[c] - mean) ** 2 for v in values) / (len(values) - 1))
                )
            around = [tap for tap in taps if tap != (y, x)]
            logits = []
            for tap in around:
                steps = [abs(p - q) for p, q in zip(centre, _clamped(image, *tap), strict=True)]
                logits.append(
                    -sum(d / (1e-8 + 0.1 * s) for d, s in zip(steps, sigmas, strict=True))
                    / len(image)
                )
            top = max(logits)
            exps = [math.exp(a - top) for a in logits]
            weights[y, x] = [(*tap, e / sum(exps)) for tap, e in zip(around, exps, strict=True)]
    return weights


def _literal_pamr(image, mask, num_iter, dilations=DILATIONS):
    """image [C,H,W], mask [N,H,W] of one image -> [N,H,W] float64."""
    weights = _literal_weights(image.double().tolist(), dilations)
    current = mask.double().tolist()
    for _ in range(num_iter):
        following = torch.zeros(mask.shape, dtype=torch.float64).tolist()
        for (y, x), neighbours in weights.items():
            for yy, xx, alpha in neighbours:
                for n, value in enumerate(_clamped(current, yy, xx)):
                    following[n][y][x] += alpha * value
        current = following
    return torch.tensor(current, dtype=torch.float64)


def _random(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("size", [(5, 9), (7, 4), (1, 1), (1, 3), (3, 1), (2, 2), (26, 3)])
@pytest.mark.parametrize(("channels", "classes"), [(3, 3), (1, 1)])
@pytest.mark.parametrize("pictures", [1, MANY])
def test_equals_the_formula_pixel_by_pixel(size, channels, classes, pictures):
    image, mask = _random(size[0] * 10 + size[1], (1, channels, *size), (1, classes, *size))
    image = (image - 0.45) / 0.225
    got = PAMR(num_iter=4, pictures=pictures)(image, mask)
    assert got.shape == (1, classes, *size) and got.dtype == torch.float32
    torch.testing.assert_close(
        got[0].double(), _literal_pamr(image[0], mask[0], 4), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("pictures", [1, MANY])
def test_ten_iterations_and_other_dilations_equal_the_formula(pictures):
    image, mask = _random(1, (1, 3, 6, 7), (1, 2, 6, 7))
    got = PAMR(pictures=pictures)(image, mask)[0].double()
    torch.testing.assert_close(got, _literal_pamr(image[0], mask[0], 10), atol=3e-6, rtol=0)
    other = PAMR(num_iter=3, dilations=(1, 3), pictures=pictures)(image, mask)[0].double()
    torch.testing.assert_close(
        other, _literal_pamr(image[0], mask[0], 3, (1, 3)), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("pictures", [1, MANY])
def test_flat_regions_and_large_offsets_keep_the_variance_right(pictures):
    """Values around 1000 in steps of 1/16 (exact): E[x^2] - E[x]^2 would lose all digits here."""
    image, mask = _random(2, (1, 2, 5, 8), (1, 2, 5, 8))
    image = (image * 16).round() / 16 + 1000
    image[:, :, :, :4] = 1000.25
    got = PAMR(num_iter=2, pictures=pictures)(image, mask)[0].double()
    torch.testing.assert_close(got, _literal_pamr(image[0], mask[0], 2), atol=2e-6, rtol=0)


def test_constant_image_averages_the_neighbours_equally():
    (mask,) = _random(3, (1, 1, 30, 30))
    weights = PAMR().weights(torch.full((1, 3, 30, 30), 0.1))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 48), atol=1e-8, rtol=0)
    plain = torch.nn.functional.conv2d(  # dilation 1 alone: a 3x3 box without its centre
        torch.nn.functional.pad(mask, (1, 1, 1, 1), mode="replicate"),
        (torch.ones(1, 1, 3, 3) - torch.eye(3)[1].outer(torch.eye(3)[1])) / 8,
    )
    torch.testing.assert_close(PAMR(1, (1,))(torch.full((1, 3, 30, 30), 0.1), mask), plain)


def test_each_picture_of_a_batch_is_refined_by_itself_to_the_bit():
    image, mask = _random(4, (3, 3, 9, 6), (3, 4, 9, 6))
    pamr = PAMR()
    together = pamr(image, mask)
    for b in range(3):
        assert torch.equal(together[b : b + 1], pamr(image[b : b + 1], mask[b : b + 1]))
    # Classes do not mix; a single one takes another path, so the last bits may differ.
    torch.testing.assert_close(together[:, 1:2], pamr(image, mask[:, 1:2]), atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], pamr(image[1:2], mask[:1])[0])


def test_weights_are_positive_and_sum_to_one_and_range_is_kept():
    image, mask = _random(6, (2, 3, 20, 31), (2, 3, 20, 31))
    mask = mask * 0.4 + 0.3
    pamr = PAMR()
    weights = pamr.weights(image)
    assert weights.shape == (2, 48, 20, 31) and weights.min() > 0
    assert torch.equal(weights, pamr.weights(image, classes=21))  # another order in memory
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 20, 31), atol=1e-6, rtol=0)
    refined = pamr.refine(weights, mask)
    assert torch.equal(refined, pamr(image, mask))
    low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
    assert (refined >= low - 1e-5).all() and (refined <= high + 1e-5).all()


def test_mask_of_another_size_is_resized_to_the_image_first():
    image, mask = _random(7, (2, 3, 10, 13), (2, 3, 4, 5))
    resized = torch.nn.functional.interpolate(
        mask, size=(10, 13), mode="bilinear", align_corners=True
    )
    assert torch.equal(PAMR()(image, mask), PAMR()(image, resized))
    assert torch.equal(PAMR(num_iter=0)(image, mask), resized)
    assert torch.equal(resized[..., 0, 0], mask[..., 0, 0]) and torch.equal(
        resized[..., -1, -1], mask[..., -1, -1]
    )


def test_an_edge_in_the_picture_stops_the_mask():
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1.0
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :5] = 1.0  # covers only part of the dark half
    refined = PAMR()(image, mask)
    assert refined[..., :8].min() > 0.25 and refined[..., 8:].max() < 1e-3


def test_half_precision_comes_back_as_float32_and_no_gradient_is_recorded():
    image, mask = _random(8, (1, 3, 6, 6), (1, 2, 6, 6))
    half = PAMR()(image.bfloat16(), mask.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, PAMR()(image.bfloat16().float(), mask.bfloat16().float()))
    kept = mask.clone().requires_grad_()
    out = PAMR()(image, kept)
    assert not out.requires_grad and torch.equal(kept.detach(), mask)
    assert PAMR(num_iter=0)(image, mask).data_ptr() != mask.data_ptr()


def test_no_state_and_no_classes():
    assert PAMR().state_dict() == {}
    image = torch.rand(1, 3, 4, 5)
    assert PAMR()(image, torch.rand(1, 0, 2, 2)).shape == (1, 0, 4, 5)


@pytest.mark.parametrize(
    ("image", "mask", "said"),
    [
        ((2, 3, 4, 4), (1, 1, 4, 4), "one set of masks per image"),
        ((3, 4, 4), (1, 1, 4, 4), r"\[B, C, H, W\]"),
        ((1, 3, 4, 4), (4, 4), r"\[B, N, h, w\]"),
        ((1, 3, 0, 4), (1, 1, 4, 4), "at least one pixel"),
        ((1, 0, 4, 4), (1, 1, 4, 4), "no channels"),
    ],
)
def test_shapes_that_do_not_fit_are_said_in_one_line(image, mask, said):
    with pytest.raises(TTDError, match=said) as error:
        PAMR()(torch.rand(image), torch.rand(mask))
    assert "\n" not in str(error.value)


def test_bad_settings_and_foreign_weights_are_refused():
    for wrong in ({"num_iter": -1}, {"dilations": ()}, {"dilations": (0, 1)}):
        with pytest.raises(TTDError, match="num_iter"):
            PAMR(**wrong)
    with pytest.raises(TTDError, match="48"):
        PAMR().refine(torch.rand(1, 8, 4, 4), torch.rand(1, 1, 4, 4))
