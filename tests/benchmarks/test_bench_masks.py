"""References and fast paths of `benchmarks/` agree, and a benchmark counts what it skips."""

import time

import bench_masks
import numpy as np
import pytest
import reference_masks
import reference_pamr
import torch
from small_tcl import texts

from core.backbones import load_backbone
from core.maps.views import prepare
from core.masks.merge import merge
from core.masks.protocol import protocol
from core.refine.pamr import PAMR


@pytest.fixture(scope="module")
def clip(small_clip):
    return load_backbone(f"local-dir:{small_clip}")


def picture(height: int, width: int) -> np.ndarray:
    coarse = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (smooth * 255).byte().permute(1, 2, 0).numpy()


def resolved(backbone, **overrides):
    return protocol("ttd", **overrides).resolve(
        backbone.arch, backbone.image_size, "threshold", 0.4
    )


@pytest.mark.parametrize(("classes", "size"), [(1, (9, 40)), (5, (30, 26)), (21, (11, 7))])
def test_pamr_equals_its_published_form(classes, size):
    generator = torch.Generator().manual_seed(1)
    image, mask = (torch.rand(2, n, *size, generator=generator) for n in (3, classes))
    torch.testing.assert_close(
        PAMR()(image, mask), reference_pamr.pamr(image, mask), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        PAMR().weights(image), reference_pamr.weights(image)[:, 0], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("classes", [2, 9])
@pytest.mark.parametrize("size", [(45, 61), (30, 40)])
def test_labels_equal_the_literal_path(clip, size, classes):
    """Windows, scales, flips, PAMR and pruning on a model whose classes win and lose."""
    pixels, text = picture(*size), texts(classes, 24)
    used = resolved(clip, image=36, scales=(1.0, 0.5), hflip=True, pamr=True)
    want = reference_masks.masks_from_tags(clip, pixels, text, used)
    got = bench_masks.ours(clip, pixels, text, used)
    assert len(want.unique()) > 1 and (got == want.numpy()).mean() >= bench_masks.AGREE


def test_soft_masks_equal_the_literal_path_for_tcl(tcl):
    """TCL's decoder convolves before it upsamples; the reference does not."""
    pixels, text = picture(37, 50), texts(3)
    used = resolved(tcl, image=40, scales=(1.0,), hflip=True)
    want = reference_masks.soft_masks(tcl, pixels, text, used)
    got = merge(tcl, prepare(pixels, used.views), text, used).at_image_size(range(3))
    torch.testing.assert_close(got, want, atol=2e-5, rtol=0)


def test_sampled_counts_calls_that_it_skips():
    def work(x):
        time.sleep(0.02)
        return x + 1

    sampled = bench_masks.Sampled(work)
    shapes = [torch.zeros(2, 3), torch.zeros(4), torch.zeros(2, 3), torch.zeros(2, 3)]
    begin = time.perf_counter()
    results = [sampled(x) for x in shapes]
    wall = time.perf_counter() - begin
    assert results[2] is results[0] and [r.shape for r in results] == [x.shape for x in shapes]
    assert 0.04 <= sampled.spent <= wall and sampled.owed == 2 * sampled.seen[((2, 3),)][1]
    assert sampled.calls[((2, 3),)] == 3
    sampled.reset()
    sampled(shapes[1])
    assert sampled.spent == 0 and sampled.owed >= 0.02


def test_texts_of_which_some_survive(clip):
    """What the benchmark calls surviving does survive, and the rest does not."""
    pixels = picture(48, 64)
    used = resolved(clip, image=32, scales=(1.0,))
    for classes, kept in ((6, 2), (4, 4)):
        text = bench_masks.texts(clip, pixels, classes, kept)
        assert text.shape == (classes, 24)
        own = clip.similarity(
            clip.encode_pixels(clip.normalize(prepare(pixels, used.views).scaled[0][None])), text
        )
        assert own[0, :kept].amax() > own[0, kept:].amax() if kept < classes else own.amax() > 0.5


def test_goals_follow_the_machine(monkeypatch):
    monkeypatch.setattr("common.has_amx", lambda: False)
    assert bench_masks.fast_goal() == ("CPU without AMX", 2)
    monkeypatch.setattr("common.has_amx", lambda: True)
    assert bench_masks.fast_goal() == ("CPU with AMX", 7)
