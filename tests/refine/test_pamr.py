"""PAMR against the formula written as loops over single pixels in float64."""

import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from paths import ROOT

from core.errors import TTDError
from core.refine import pamr_gather, pamr_native
from core.refine.pamr import PAMR, _works

MANY = 10**6  # images of a job that is worth compiling for
DILATIONS = (1, 2, 4, 8, 12, 24)

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def _clamped(maps, y, x):
    """maps [C][H][W] at (y, x), indices clamped to the image -> list of C values."""
    height, width = len(maps[0]), len(maps[0][0])
    return [m[min(max(y, 0), height - 1)][min(max(x, 0), width - 1)] for m in maps]


def _literal_weights(image, dilations):
    """image [C][H][W] nested lists -> {(y, x): [(y', x', alpha), ...]}, straight from the formula."""
    weights = {}
    for y in range(len(image[0])):
        for x in range(len(image[0][0])):
            centre = _clamped(image, y, x)
            taps = [
                (y + a * d, x + b * d) for d in dilations for a in (-1, 0, 1) for b in (-1, 0, 1)
            ]
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
        following = [
            [[0.0] * mask.shape[2] for _ in range(mask.shape[1])] for _ in range(mask.shape[0])
        ]
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
    """Values around 1000 with steps of 1/16 (exact in float32): E[x^2] - E[x]^2 would lose all digits here."""
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


@pytest.mark.parametrize("size", [(9, 6), (1, 1), (40, 3), (3, 40)])
@pytest.mark.parametrize("classes", [1, 3, 4, 21, 33, 70])
def test_every_path_gives_the_same(monkeypatch, classes, size):
    """Which path is taken follows from the class count alone, and either order of the weights in memory will do."""
    image, mask = _random(9, (2, 3, *size), (2, classes, *size))
    pamr, cpu = PAMR(4), torch.device("cpu")
    assert pamr.path(cpu, classes) == ("shifted" if classes < 4 else "gathered")
    got = {many: pamr.refine(pamr.weights(image, many), mask) for many in (1, 21)}
    assert torch.equal(got[1], got[21]) and got[1].is_contiguous()
    monkeypatch.setattr("core.refine.pamr_gather.MIN_CLASSES", 100)
    torch.testing.assert_close(pamr(image, mask), got[1], atol=1e-6, rtol=0)
    many = PAMR(4, pictures=MANY)
    torch.testing.assert_close(
        many(image, mask), got[1], atol=3e-6, rtol=0
    )  # two roundings of the weights
    own = many.weights(image)
    torch.testing.assert_close(own, pamr.weights(image), atol=2e-6, rtol=0)
    torch.testing.assert_close(pamr.refine(own, mask), many.refine(own, mask), atol=1e-6, rtol=0)
    assert torch.equal(
        many.refine(own.clone(memory_format=torch.contiguous_format), mask), many.refine(own, mask)
    )


@pytest.mark.parametrize("pixels", [1, 9, 24, 100])
def test_rows_are_written_in_place_only_when_nobody_looks_at_them_any_more(monkeypatch, pixels):
    """Taller than twice the largest dilation, in blocks of few rows."""
    image, mask = _random(10, (1, 3, 77, 3), (1, 5, 77, 3))
    monkeypatch.setattr("core.refine.pamr_gather.MIN_CLASSES", 100)
    want = PAMR(3)(image, mask)
    monkeypatch.setattr("core.refine.pamr_gather.MIN_CLASSES", 4)
    monkeypatch.setattr("core.refine.pamr_gather.BLOCK_PIXELS", pixels)
    torch.testing.assert_close(PAMR(3)(image, mask), want, atol=1e-6, rtol=0)


def test_blocks_of_classes_are_of_nearly_one_size():
    for classes in range(4, 200):
        lengths = [block.stop - block.start for block in pamr_gather.class_blocks(classes)]
        assert (
            sum(lengths) == classes
            and max(lengths) <= 16
            and min(lengths) > 3
            and max(lengths) - min(lengths) <= 1
        )


def test_the_fused_path_is_for_many_pictures_on_cuda(monkeypatch):
    """The choice needs no GPU: a kernel's compilation must not cost a small job more than it saves."""
    cuda = torch.device("cuda")
    monkeypatch.setattr("core.refine.pamr._works", lambda way, device: way == "fused")
    assert PAMR().path(cuda, 21) == "shifted"
    assert PAMR(pictures=10_000).path(cuda, 21) == PAMR(pictures=10_000).path(cuda, 1) == "fused"
    assert PAMR(pictures=10_000).path(torch.device("mps"), 21) == "shifted"
    monkeypatch.setattr("core.refine.pamr._works", lambda way, device: False)
    assert PAMR(pictures=10_000).path(cuda, 21) == "shifted"


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A fresh cache and no kernel loaded; sets the compiler there is."""
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    forget = [pamr_native.library.cache_clear, _works.cache_clear]
    [call() for call in forget]
    yield lambda command: monkeypatch.setenv("CC", command)
    [call() for call in forget]


@needs_compiler
def test_the_native_path_is_for_many_pictures_and_compiled_once(compiler, tmp_path):
    cpu, calls = torch.device("cpu"), tmp_path / "calls"
    (counting := tmp_path / "cc").write_text(f'#!/bin/sh\necho >> {calls}\nexec cc "$@"\n')
    counting.chmod(0o755)
    compiler(str(counting))
    assert [PAMR(pictures=n).path(cpu, 21) for n in (1, 31)] == [
        "gathered"
    ] * 2 and not calls.exists()
    assert PAMR(pictures=32).path(cpu, 21) == PAMR(pictures=32).path(cpu, 1) == "native"
    pamr_native.library.cache_clear(), _works.cache_clear()  # another process, later
    assert PAMR(pictures=32).path(cpu, 21) == "native"
    assert calls.read_text() == "\n" and [
        file.suffix for file in (tmp_path / "cache").iterdir()
    ] == [".so"]


@pytest.mark.parametrize("command", ["/nowhere/cc", "false", "true"])
def test_without_a_working_compiler_the_plain_path_serves(compiler, command, tmp_path):
    compiler(command)
    assert PAMR(pictures=MANY).path(torch.device("cpu"), 21) == "gathered"
    assert not list(tmp_path.glob("cache/*"))


@needs_compiler
def test_native_takes_no_picture_and_a_part_of_the_weights():
    image, mask = _random(13, (2, 3, 9, 60), (2, 5, 9, 60))
    pamr = PAMR(2, pictures=MANY)
    weights = pamr.weights(image)
    part = pamr.refine(weights[..., 10:60], mask[..., :50])
    assert torch.equal(part, pamr.refine(weights[..., 10:60].clone(), mask[..., :50]))
    assert pamr(image[:0], mask[:0]).shape == (0, 5, 9, 60)


@needs_compiler
@pytest.mark.parametrize("wrong", ["result", "error"])
def test_a_kernel_that_does_not_work_is_not_used(compiler, monkeypatch, wrong):
    refine = pamr_native.refine

    def broken(*args):
        if wrong == "error":
            raise RuntimeError("no such\ninstruction")
        return refine(*args) + 1e-3

    monkeypatch.setattr(pamr_native, "refine", broken)
    image, mask = _random(12, (1, 3, 8, 9), (1, 5, 8, 9))
    with pytest.warns(
        UserWarning, match=r"native kernel does not work.*(is wrong|no such instruction)"
    ):
        got = PAMR(pictures=MANY)(image, mask)
    assert (
        torch.equal(got, PAMR()(image, mask))
        and PAMR(pictures=MANY).path(image.device, 5) == "gathered"
    )


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_native_sums_do_not_depend_on_the_threads(threads):
    image, mask = _random(11, (2, 3, 30, 37), (2, 21, 30, 37))
    want, before = PAMR(pictures=MANY)(image, mask), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(PAMR(pictures=MANY)(image, mask), want)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_fused_kernels_by_tritons_interpreter():
    """The kernels' arithmetic without a GPU; in a process of its own: Triton reads the switch when it is imported."""
    pytest.importorskip("triton")
    script = """
import torch
from core.refine import pamr_triton
from core.refine.pamr import PAMR, neighbour_offsets
pamr = PAMR(2)
offsets = neighbour_offsets(pamr.dilations)
for batch, channels, classes, height, width in ((2, 3, 3, 20, 70), (1, 1, 9, 5, 3), (1, 2, 1, 17, 1)):
    image, mask = torch.rand(batch, channels, height, width), torch.rand(batch, classes, height, width)
    kept, weights = mask.clone(), pamr_triton.weights(image, offsets, 6)
    torch.testing.assert_close(weights, pamr.weights(image), atol=2e-6, rtol=0)
    torch.testing.assert_close(pamr_triton.refine(weights, mask, 2, offsets), pamr(image, mask), atol=5e-6, rtol=0)
    assert torch.equal(mask, kept)
"""
    root = ROOT
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=environment, cwd=root, timeout=600
    )


def test_blocks_of_rows_and_classes_cover_everything(monkeypatch):
    image, mask = _random(5, (2, 3, 11, 7), (2, 5, 11, 7))
    whole = PAMR(3)(image, mask)
    monkeypatch.setattr("core.refine.pamr_shifted.CPU_BLOCK_VALUES", 30)
    monkeypatch.setattr("core.refine.pamr_gather.BLOCK_PIXELS", 15)
    monkeypatch.setattr("core.refine.pamr_gather.BLOCK_CLASSES", 2)
    torch.testing.assert_close(PAMR(3)(image, mask), whole, atol=1e-6, rtol=0)


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
