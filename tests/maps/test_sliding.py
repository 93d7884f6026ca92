"""Windows, scales and flips, against loops over single windows with `Backbone.masks`."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from blobs import blobs, resolved
from small_tcl import texts

from core.backbones import load_backbone
from core.maps.views import prepare, window_spans
from core.maps.windows import bilinear, coverage, resampled
from core.masks.labels import decide
from core.masks.merge import merge
from core.masks.protocol import protocol
from core.refine.pamr import PAMR


@pytest.fixture(scope="module")
def clip(small_clip):
    """The small CLIP, 32 px, patch 8, D = 24; its own a, b spread the soft masks."""
    return load_backbone(f"local-dir:{small_clip}")


def spans_by_hand(length, window, stride):
    """mmsegmentation's rule, literally: count, ends, starts."""
    count = int(np.floor(max(length - window + stride - 1, 0) / stride)) + 1
    found = []
    for k in range(count):
        end = min(stride * k + window, length)
        found.append((max(end - window, 0), end))
    return found


def masks_one_by_one(backbone, picture: np.ndarray, text, used, pamr=False):
    """The averaged soft masks [N, H, W]: one window, one flip, one scale at a time, full size."""
    height, width = picture.shape[:2]
    total = torch.zeros(len(text), height, width)
    for scaled in prepare(picture, used.views).scaled:
        image = backbone.normalize(scaled[None])
        summed, count = torch.zeros(len(text), *scaled.shape[1:]), torch.zeros(scaled.shape[1:])
        for top, bottom in spans_by_hand(scaled.shape[1], used.side, used.step):
            for left, right in spans_by_hand(scaled.shape[2], used.side, used.step):
                crop = image[..., top:bottom, left:right]
                views = [backbone.masks(crop, text, pamr=pamr, kp_weight=used.kp_weight)]
                if used.hflip:
                    flipped = backbone.masks(
                        crop.flip(-1), text, pamr=pamr, kp_weight=used.kp_weight
                    )
                    views.append(flipped.flip(-1))
                summed[:, top:bottom, left:right] += sum(views)[0] / len(views)
                count[top:bottom, left:right] += 1
        assert count.min() >= 1
        total += F.interpolate((summed / count)[None], size=(height, width), mode="bilinear")[0]
    return total / len(used.scales)


@pytest.mark.parametrize(
    ("length", "window", "stride", "want"),
    [
        (597, 448, 224, [(0, 448), (149, 597)]),
        (448, 448, 224, [(0, 448)]),
        (449, 448, 224, [(0, 448), (1, 449)]),
        (896, 448, 224, [(0, 448), (224, 672), (448, 896)]),
        (300, 448, 224, [(0, 300)]),
        (1, 448, 224, [(0, 1)]),
    ],
)
def test_window_positions(length, window, stride, want):
    assert window_spans(length, window, stride) == want


def test_windows_cover_everything_for_all_small_sizes():
    for length in range(1, 40):
        for window in range(1, 12):
            for stride in range(1, window + 1):
                spans = window_spans(length, window, stride)
                assert spans == spans_by_hand(length, window, stride)
                assert coverage(spans, length).min() >= 1
                assert all(end - start == min(window, length) for start, end in spans)


def test_sizes_of_scales():
    used = protocol("ttd", image=448, scales=(1.0, 0.5, 1.5, 2.0)).resolve("X", 224, "none", 0.4)
    assert [tuple(s.shape[1:]) for s in prepare(blobs(375, 500), used.views).scaled] == [
        (448, 597),
        (224, 299),
        (672, 896),
        (896, 1195),
    ]
    tiny = protocol("ttd", image=1, scales=(0.1,)).resolve("X", 224, "none", 0.4)
    assert tuple(prepare(blobs(3, 500), tiny.views).scaled[0].shape[1:]) == (
        1,
        4,
    )  # never 0, and at most 4 : 1


@pytest.mark.parametrize(("out", "cells"), [(7, 3), (3, 7), (10, 10), (5, 1), (1, 6)])
def test_bilinear_matrix_is_torchs_interpolation(out, cells):
    values = torch.rand(1, 2, cells, 4, dtype=torch.float64)
    want = F.interpolate(values, size=(out, 4), mode="bilinear")
    assert torch.allclose(bilinear(out, cells) @ values, want, atol=1e-12)


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("size", [(45, 61), (64, 64), (20, 90), (7, 9)])
def test_batched_windows_equal_one_at_a_time(clip, size, hflip):
    """Odd sizes are padded unevenly, where a mirrored window's cells lie elsewhere."""
    picture, text = blobs(*size), texts(5, 24)
    used = resolved(clip, image=36, scales=(1.0, 0.5, 1.5, 2.0), hflip=hflip)
    want = masks_one_by_one(clip, picture, text, used)
    for batch in (1, 3, 100):
        merged = merge(clip, prepare(picture, used.views), text, used, batch)
        got = merged.at_image_size(range(5))
        assert torch.allclose(got, want, atol=2e-6), float((got - want).abs().max())
        assert (merged.highest >= got.flatten(1).amax(1) - 1e-6).all()
        assert (merged.lowest <= got.flatten(1).amin(1) + 1e-6).all()
    assert torch.allclose(merged.at_image_size([3, 1]), want[[3, 1]], atol=2e-6)


def test_batched_windows_equal_one_at_a_time_for_tcl(tcl):
    """Stride 4 and patch 16: cells of nothing but padding exist."""
    picture, text = blobs(50, 83), texts(3)
    used = resolved(tcl, image=37, scales=(1.0, 0.7), hflip=True)
    got = merge(tcl, prepare(picture, used.views), text, used).at_image_size(range(3))
    assert torch.allclose(got, masks_one_by_one(tcl, picture, text, used), atol=5e-6)


@pytest.mark.parametrize("size", [(45, 61), (61, 45), (40, 120)])
def test_protocol_tcl_equals_masks_of_every_window(tcl, size):
    """PAMR and the knowledge prior inside each window, averaged by coverage, resized, arg-max."""
    picture, text = blobs(*size), texts(4)
    used = resolved(tcl, "tcl", image=48)
    assert (
        used.kp_weight,
        used.background_threshold,
        used.pamr_at,
        used.templates,
        used.scales,
        used.hflip,
    ) == (0.3, 0.4, "window", "custom", (1.0,), False)
    want = masks_one_by_one(tcl, picture, text, used, pamr=True)
    with_background = torch.cat([torch.full_like(want[:1], used.background_threshold), want])
    for batch in (1, 8):
        merged = merge(tcl, prepare(picture, used.views), text, used, batch)
        assert torch.allclose(merged.at_image_size(range(4)), want, atol=5e-6)
        index, _ = decide(merged, picture, used)
        close = (
            with_background.topk(2, 0).values.diff(dim=0).abs()[0] < 2e-5
        )  # rounding may decide there
        assert (torch.from_numpy(index + 1).long() == with_background.argmax(0))[~close].all()


def test_protocol_tcl_for_a_model_without_prior(clip):
    """kp 0, PAMR at the windows' size: `CLIPBackbone.masks`."""
    picture, text = blobs(40, 61), texts(3, 24)
    used = resolved(clip, "tcl", image=32)
    assert used.kp_weight == 0
    got = merge(clip, prepare(picture, used.views), text, used).at_image_size(range(3))
    assert torch.allclose(got, masks_one_by_one(clip, picture, text, used, pamr=True), atol=5e-6)


def test_windows_of_backbone_masks_also_with_scales_and_flip(tcl):
    picture, text = blobs(40, 61), texts(3)
    used = resolved(tcl, "tcl", image=32, scales=(1.0, 2.0), hflip=True)
    got = merge(tcl, prepare(picture, used.views), text, used, 5).at_image_size(range(3))
    assert torch.allclose(got, masks_one_by_one(tcl, picture, text, used, pamr=True), atol=5e-6)


def test_pamr_acts_after_merging_at_the_pictures_size(clip):
    picture, text = blobs(45, 61), texts(4, 24)
    used = resolved(clip, image=32, scales=(1.0, 1.5), hflip=True, pamr=True, rule="none")
    soft = masks_one_by_one(clip, picture, text, used)[None]
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    want = PAMR()(image, soft)[0]
    merged = merge(clip, prepare(picture, used.views), text, used)
    _, scores = decide(merged, picture, used, prune=False, scores=True)
    assert np.abs(scores.maps.astype(float) - want.numpy()).max() < 1e-3  # float16
    assert scores.classes.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("out", "cells"), [(7, 3), (3, 7), (5, 5), (1, 4), (4, 1), (640, 1195), (480, 224)]
)
def test_resampled_is_the_product_with_bilinear(out, cells):
    generator = torch.Generator().manual_seed(cells)
    values = torch.rand(cells, 2, 3, dtype=torch.float64, generator=generator)
    want = (bilinear(out, cells) @ values.flatten(1)).view(out, 2, 3)
    torch.testing.assert_close(resampled(values, out), want, atol=1e-12, rtol=0)
