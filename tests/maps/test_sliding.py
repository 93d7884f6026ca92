"""Windows, scales, flips and what is made of them, against loops over single windows with `Backbone.masks`."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_tcl import texts

from core.backbones import load_backbone
from core.maps.resize import resized_tensor, target_size
from core.maps.sliding import Merged
from core.maps.views import prepare, window_spans
from core.maps.windows import bilinear, coverage
from core.masks.labels import Labels, decide
from core.masks.merge import merge
from core.masks.protocol import protocol
from core.masks.strips import strips_of
from core.refine.pamr import PAMR


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image of coloured blobs, uint8 [H, W, 3]."""
    coarse = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (smooth * 255).byte().permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def clip(small_clip):
    """The small CLIP, 32 px, patch 8, D = 24; its own a, b spread the soft masks."""
    return load_backbone(f"local-dir:{small_clip}")


def resolved(backbone, name="ttd", rule="threshold", background_threshold=0.4, **overrides):
    return protocol(name, **overrides).resolve(
        backbone.arch, backbone.image_size, rule, background_threshold
    )


def spans_by_hand(length, window, stride):
    """tcl.md's words, literally: count, ends, starts."""
    count = int(np.floor(max(length - window + stride - 1, 0) / stride)) + 1
    found = []
    for k in range(count):
        end = min(stride * k + window, length)
        found.append((max(end - window, 0), end))
    return found


def masks_one_by_one(backbone, picture: np.ndarray, text, used, pamr=False):
    """The averaged soft masks [N, H, W] by plain loops: one window, one flip, one scale at a time, at full size."""
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


@pytest.mark.parametrize(
    ("size", "scaled", "windows"),
    [((375, 500), (448, 597), 2), ((480, 640), (448, 597), 2), ((1024, 2048), (448, 896), 3)],
)
def test_window_counts_of_protocol_tcl(size, scaled, windows):
    """The three examples of TCL's test pipeline."""
    assert target_size(*size, 448, "opencv") == scaled
    assert (
        len(window_spans(scaled[0], 448, 224)) * len(window_spans(scaled[1], 448, 224)) == windows
    )


def test_opencv_resize_keeps_a_side_and_honours_the_long_bound():
    assert target_size(1, 5000, 448, "opencv") == (1, 2048)  # f = 2048 / 5000: int(0.9) would be 0
    assert target_size(100, 1000, 448, "opencv") == (205, 2048)


def test_protocol_tcl_resizes_like_opencv_on_bytes():
    import cv2

    picture = noise(37, 50)
    used = protocol("tcl", image=64).resolve("TCL", 32, "threshold", 0.4)
    got = (prepare(picture, used.views).scaled[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert (
        got == cv2.resize(picture, (int(50 * 64 / 37 + 0.5), 64), interpolation=cv2.INTER_LINEAR)
    ).all()


def test_sizes_of_scales():
    used = protocol("ttd", image=448, scales=(1.0, 0.5, 1.5, 2.0)).resolve("X", 224, "none", 0.4)
    assert [tuple(s.shape[1:]) for s in prepare(noise(375, 500), used.views).scaled] == [
        (448, 597),
        (224, 299),
        (672, 896),
        (896, 1195),
    ]
    tiny = protocol("ttd", image=1, scales=(0.1,)).resolve("X", 224, "none", 0.4)
    assert tuple(prepare(noise(3, 500), tiny.views).scaled[0].shape[1:]) == (
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
    """Odd sizes leave sides that are padded unevenly, where a mirrored window's cells lie elsewhere."""
    picture, text = noise(*size), texts(5, 24)
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
    picture, text = noise(50, 83), texts(3)
    used = resolved(tcl, image=37, scales=(1.0, 0.7), hflip=True)
    got = merge(tcl, prepare(picture, used.views), text, used).at_image_size(range(3))
    assert torch.allclose(got, masks_one_by_one(tcl, picture, text, used), atol=5e-6)


@pytest.mark.parametrize("size", [(45, 61), (61, 45), (40, 120)])
def test_protocol_tcl_equals_masks_of_every_window(tcl, size):
    """PAMR and the knowledge prior inside each window, crops averaged by coverage, then resized, then arg-max."""
    picture, text = noise(*size), texts(4)
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
    picture, text = noise(40, 61), texts(3, 24)
    used = resolved(clip, "tcl", image=32)
    assert used.kp_weight == 0
    got = merge(clip, prepare(picture, used.views), text, used).at_image_size(range(3))
    assert torch.allclose(got, masks_one_by_one(clip, picture, text, used, pamr=True), atol=5e-6)


def test_windows_of_backbone_masks_also_with_scales_and_flip(tcl):
    picture, text = noise(40, 61), texts(3)
    used = resolved(tcl, "tcl", image=32, scales=(1.0, 2.0), hflip=True)
    got = merge(tcl, prepare(picture, used.views), text, used, 5).at_image_size(range(3))
    assert torch.allclose(got, masks_one_by_one(tcl, picture, text, used, pamr=True), atol=5e-6)


def test_pamr_acts_after_merging_at_the_pictures_size(clip):
    picture, text = noise(45, 61), texts(4, 24)
    used = resolved(clip, image=32, scales=(1.0, 1.5), hflip=True, pamr=True, rule="none")
    soft = masks_one_by_one(clip, picture, text, used)[None]
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    want = PAMR()(image, soft)[0]
    merged = merge(clip, prepare(picture, used.views), text, used)
    _, scores = decide(merged, picture, used, prune=False, scores=True)
    assert np.abs(scores.maps.astype(float) - want.numpy()).max() < 1e-3  # float16
    assert scores.classes.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("rule", ["threshold", "none"])
@pytest.mark.parametrize("pamr", [False, True])
def test_pruning_never_changes_a_label(clip, pamr, rule):
    """Many classes, most of them hopeless; label maps with and without pruning are the same."""
    text = torch.cat([texts(12, 24, seed=s) + 2 * s for s in range(3)])
    pruned = 0
    for seed in range(4):
        picture = noise(41, 57, seed)
        for background_threshold in (0.1, 0.4, 0.6):
            used = resolved(
                clip,
                image=32,
                scales=(1.0, 0.5),
                pamr=pamr,
                rule=rule,
                background_threshold=background_threshold,
            )
            prepared = prepare(picture, used.views)
            merged = merge(clip, prepared, text, used)
            with_pruning, _ = decide(merged, picture, used)
            without, _ = decide(merged, picture, used, prune=False)
            assert (with_pruning == without).all()
            pruned += int((merged.highest <= background_threshold).sum())
    assert pruned > 0


class Fixed(Merged):
    """Maps given directly."""

    def __init__(self, maps):
        self.size, self.maps = tuple(maps.shape[1:]), maps
        self.highest, self.lowest = maps.flatten(1).amax(1), maps.flatten(1).amin(1)

    def at_image_size(self, classes, rows=slice(None)):
        return self.maps[list(classes), rows]


def fixed(maps, **overrides):
    used = protocol("ttd", image=32, **overrides).resolve("X", 16, "threshold", 0.4)
    return decide(Fixed(maps), np.zeros((*maps.shape[1:], 3), np.uint8), used, scores=True)


def test_background_wins_ties_and_the_first_class_among_equals(monkeypatch):
    maps = torch.tensor([[[0.4, 0.5, 0.2, 0.7]], [[0.1, 0.5, 0.39, 0.8]]])
    maps[0, 0, 0] = torch.tensor(0.4)
    for chunk in (2**24, 1):  # all classes at once, one at a time
        monkeypatch.setattr("core.masks.strips.CHUNK_VALUES", chunk)
        index, _ = fixed(maps, background_threshold=float(maps[0, 0, 0]))
        assert index.tolist() == [[-1, 0, -1, 1]]
        assert fixed(maps, rule="none")[0].tolist() == [[0, 0, 1, 1]]
    assert Labels(1, 0).of(index).tolist() == [[0, 1, 0, 2]]
    assert Labels(0, 255).of(index).tolist() == [[255, 0, 255, 1]]


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_softmax_protocols_against_torchs_softmax(monkeypatch, chunk):
    monkeypatch.setattr("core.masks.strips.CHUNK_VALUES", chunk)
    cosines = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(3)) * 0.1 + 0.2
    used = protocol("naclip").resolve("X", 16, "threshold", 0.3)
    index, scores = decide(Fixed(cosines), np.zeros((5, 7, 3), np.uint8), used, scores=True)
    want = (40 * cosines).softmax(0)
    assert np.abs(scores.maps - want.numpy()).max() < 1e-3
    assert (torch.from_numpy(index) == torch.where(want.amax(0) > 0.3, want.argmax(0), -1)).all()


def test_saved_scores_give_the_labels_of_every_higher_threshold(clip):
    """Maps left out of the scores never exceed the floor."""
    picture, text = noise(40, 50), texts(20, 24)
    used = resolved(clip, image=32)
    prepared = prepare(picture, used.views)
    merged = merge(clip, prepared, text, used)
    index, scores = decide(merged, picture, used, scores=True)
    everything = merged.at_image_size(range(20))
    left_out = sorted(set(range(20)) - set(scores.classes.tolist()))
    assert (everything[left_out] < 0.01).all() and (index == decide(merged, picture, used)[0]).all()
    assert np.abs(scores.maps - everything[scores.classes.tolist()].numpy()).max() < 1e-3


def test_no_class_at_all_is_background():
    index, scores = fixed(torch.full((3, 4, 5), 0.005))
    assert (index == -1).all() and scores.maps.shape == (0, 4, 5)


def test_crf_lets_the_background_compete(monkeypatch):
    """The CRF sees the threshold as a first, constant map and every class; its marginals decide."""
    seen = {}

    def fake(image, maps):
        seen["maps"] = maps
        return maps.flip(0)

    monkeypatch.setattr("core.refine.crf.dense_crf", fake)
    maps = torch.tensor([[[0.9, 0.1]], [[0.2, 0.3]]])
    index, _ = fixed(maps, crf=True)
    assert torch.equal(seen["maps"], torch.cat([torch.full((1, 1, 2), 0.4), maps]))
    assert index.tolist() == [
        [0, 1]
    ]  # the reversed marginals: background gets .2/.3, class 0 .9/.1, class 1 .4/.4


def test_first_scale_is_the_plain_resize(clip):
    picture = noise(45, 61)
    used = resolved(clip, image=32)
    assert torch.equal(prepare(picture, used.views).scaled[0], resized_tensor(picture, 32))


@pytest.mark.parametrize(("name", "pamr"), [("ttd", True), ("ttd", False), ("naclip", False)])
def test_large_pictures_in_strips_give_the_same(monkeypatch, name, pamr):
    """PAMR reaches 240 pixels; strips with that much around them equal the whole image at once."""
    picture = noise(700, 20)
    maps = torch.rand(5, 700, 20, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.2
    used = protocol(name, pamr=pamr, image=32).resolve(
        "X", 16, "threshold", 0.35 if name == "ttd" else 0.3
    )
    whole, scores = decide(Fixed(maps), picture, used, scores=True)
    monkeypatch.setattr("core.masks.strips.STRIP_PIXELS", 20 * 600)
    monkeypatch.setattr("core.masks.strips.CHUNK_VALUES", 1)
    assert len(strips_of((700, 20), used)) == (6 if pamr else 2)
    index, of_strips = decide(Fixed(maps), picture, used, scores=True)
    assert (index == whole).all() and len(np.unique(whole)) == 6
    assert (index == decide(Fixed(maps), picture, used)[0]).all()
    assert of_strips.classes.tolist() == scores.classes.tolist() == [0, 1, 2, 3, 4]
    assert np.abs(of_strips.maps.astype(float) - scores.maps).max() < 1e-3
