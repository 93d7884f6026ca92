"""The Predictor and its geometry, against torch's interpolation, by hand and planted images."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from colour_backbone import ColourBackbone, planted
from PIL import Image

from core.errors import TTDError
from core.maps.grid import Grid
from core.predictor import REFINE_SIDE, Predictor


@pytest.mark.parametrize(
    ("size", "patch", "stride"),
    [
        ((16, 24), 8, 8),
        ((17, 23), 8, 8),
        ((30, 41), 16, 4),
        ((1, 1), 8, 8),
        ((9, 5), 4, 2),
        ((1, 50), 16, 4),
    ],
)
@pytest.mark.parametrize("out", [None, (7, 11), (50, 64)])
def test_resizing_a_map_is_interpolating_over_the_padded_image_and_cropping(
    size, patch, stride, out
):
    padded = [side + -side % patch for side in size]
    maps = torch.randn(
        3, padded[0] // stride, padded[1] // stride, generator=torch.Generator().manual_seed(0)
    )
    grid = Grid.of(size, patch, stride)
    # Cells of nothing but padding never count: as if their neighbour inside were repeated.
    rows, cols = grid.rows.inside().nonzero()[:, 0], grid.cols.inside().nonzero()[:, 0]
    clean = maps[:, torch.arange(maps.shape[1]).clamp(rows[0], rows[-1])]
    clean = clean[:, :, torch.arange(maps.shape[2]).clamp(cols[0], cols[-1])]
    whole = F.interpolate(clean[None], size=padded, mode="bilinear", align_corners=False)[0]
    top, left = ((p - s) // 2 for p, s in zip(padded, size, strict=True))
    cropped = whole[:, top : top + size[0], left : left + size[1]]
    if out is None:
        torch.testing.assert_close(grid.resize(maps, size), cropped)
    else:  # read each output pixel's centre by hand from the map
        result, positions = (
            grid.resize(maps, out),
            [(0, 0), (out[0] - 1, out[1] // 2), (out[0] // 3, out[1] - 1)],
        )
        for y, x in positions:
            point = (
                torch.tensor(
                    [
                        [
                            ((x + 0.5) / out[1] * size[1] + left) / padded[1],
                            ((y + 0.5) / out[0] * size[0] + top) / padded[0],
                        ]
                    ]
                )
                * 2
                - 1
            )
            expected = F.grid_sample(
                clean[None], point.view(1, 1, 1, 2), align_corners=False, padding_mode="border"
            )
            torch.testing.assert_close(result[:, y, x], expected.flatten())


def test_cells_that_show_no_pixel_are_padding():
    assert (
        Grid.of((17, 30), 16, 4).rows.inside().tolist() == [False] + [True] * 5 + [False] * 2
    )  # 7 + 17 + 8
    assert Grid.of((17, 30), 8, 8).inside().all()


@pytest.mark.parametrize(("patch", "stride"), [(8, 8), (16, 4)])
@pytest.mark.parametrize("shape", [(48, 64), (45, 61), (61, 45), (33, 97)])
@pytest.mark.parametrize("image_size", [33, 48, 100])
def test_a_planted_square_is_found_where_it_is(patch, stride, shape, image_size):
    predictor = Predictor(
        ColourBackbone(patch, stride), image_size, scales=(1.0, 0.6, 1.7), hflip=True
    )
    cell = stride * min(shape) / (1.7 * image_size)  # of the finest grid, in pixels of the image
    for y, x in [(0, 0), (shape[0] - 4, shape[1] - 4), (shape[0] // 3, shape[1] // 2)]:
        predictor.set_image(planted(*shape, y, x))
        (px, py), heat = predictor.peaks(["red"])[0].tolist(), predictor.maps(["red"])[0]
        best = divmod(int(heat.argmax()), shape[1])
        assert heat.shape == shape
        for found_y, found_x in ((py, px), best):
            assert (
                abs(found_y - (y + 1.5)) <= 2 + cell / 2
                and abs(found_x - (x + 1.5)) <= 2 + cell / 2
            )


def test_peaks_are_pixels_of_the_picture_also_at_its_border():
    predictor = Predictor(ColourBackbone(16), 17)
    for y, x in [(0, 0), (16, 16)]:
        predictor.set_image(planted(17, 17, y, x, side=1))
        assert (
            predictor.peaks(["red", "blue"]).min() >= 0
            and predictor.peaks(["red", "blue"]).max() <= 16
        )


def test_one_scale_is_the_backbones_own_map():
    image, backbone = planted(20, 28, 3, 9), ColourBackbone()
    predictor = Predictor(backbone, 20)
    predictor.set_image(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    expected = backbone.similarity(
        backbone.encode_pixels(tensor), backbone.encode_text(["red", "blue"])
    )[0]
    torch.testing.assert_close(predictor.scores(["red", "blue"]), expected.flatten(1).amax(1))
    resized = F.interpolate(expected[None], size=(24, 32), mode="bilinear", align_corners=False)[
        0, :, 2:22, 2:30
    ]
    torch.testing.assert_close(predictor.maps(["red", "blue"]), resized)


def test_scales_and_flip_are_averaged_on_the_finest_grid_before_the_maximum():
    image, backbone = planted(32, 32, 0, 4, side=8), ColourBackbone()
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    half = F.interpolate(tensor, size=(16, 16), mode="bilinear", antialias=True)
    text = backbone.encode_text(["red"])
    views = (tensor, tensor.flip(-1), half, half.flip(-1))
    maps = [backbone.similarity(backbone.encode_pixels(view), text) for view in views]
    maps = [maps[0], maps[1].flip(-1), maps[2], maps[3].flip(-1)]
    by_hand = (
        sum(F.interpolate(m, size=(4, 4), mode="bilinear", align_corners=False) for m in maps)[0, 0]
        / 4
    )
    predictor = Predictor(backbone, 32, scales=(0.5, 1.0), hflip=True)
    predictor.set_image(image)
    torch.testing.assert_close(predictor.scores(["red"])[0], by_hand.max())
    torch.testing.assert_close(predictor.maps(["red"], size=(4, 4))[0], by_hand)


def test_flip_of_a_padded_picture_lands_on_the_same_pixels():
    image = planted(
        21, 27, 5, 20
    )  # 27 -> 32: 2 columns of padding left, 3 right, swapped in the mirrored image
    plain, both = (
        Predictor(ColourBackbone(8, 1), 21),
        Predictor(ColourBackbone(8, 1), 21, hflip=True),
    )
    for predictor in (plain, both):
        predictor.set_image(image)
    torch.testing.assert_close(plain.maps(["red"]), both.maps(["red"]))


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.5, 2.0)])
def test_padded_cells_never_count(scales):
    predictor = Predictor(
        ColourBackbone(16, 4), 17, scales, hflip=True
    )  # whole cells of padding around it
    predictor.set_image(np.full((17, 40, 3), 255, np.uint8))
    whole = predictor.backbone.encode_pixels(torch.ones(1, 3, 17, 40))
    assert (
        predictor.backbone.similarity(whole, torch.tensor([[0.0, 0, 0, 1]])).max() == 1
    )  # the trap is there
    assert predictor.scores(["padding"]) < 0.95
    assert predictor.maps(["padding"]).max() < 0.95


def test_soft_masks_are_the_sigmoid_of_the_map():
    predictor = Predictor(ColourBackbone(), 32)
    predictor.set_image(np.full((32, 32, 3), (255, 0, 0), np.uint8))
    masks = predictor.soft_masks(["red", "blue"], size=(5, 9))
    expected = torch.tensor([1 / (1 + np.exp(-5)), 1 / (1 + np.exp(5))], dtype=torch.float32)
    torch.testing.assert_close(masks, expected.view(2, 1, 1).expand(2, 5, 9))


def test_many_questions_one_encoding():
    predictor = Predictor(ColourBackbone(), 32, scales=(1.0, 0.5), hflip=True)
    predictor.set_image(planted(32, 32, 3, 3))
    for _ in range(3):
        predictor.maps(["red", "blue", "red"])
        predictor.scores(["blue", "red"])
    assert predictor.backbone.calls == {"pixels": 2, "text": 2}


def test_a_path_and_its_array_are_the_same_picture(tmp_path):
    Image.fromarray(planted(20, 20, 2, 2)).save(tmp_path / "a.png")
    predictor = Predictor(ColourBackbone(), 20)
    predictor.set_image(tmp_path / "a.png")
    from_path = predictor.maps(["red"])
    predictor.set_image(planted(20, 20, 2, 2))
    assert torch.equal(from_path, predictor.maps(["red"]))


@pytest.mark.parametrize("shape", [(1, 1), (5000, 1), (1, 5000), (3, 2), (300, 20)])
@pytest.mark.parametrize("refine", [None, "pamr"])
def test_odd_shapes(shape, refine):
    predictor = Predictor(ColourBackbone(), 24, scales=(1.0, 0.01), refine=refine)
    predictor.set_image(np.full((*shape, 3), (0, 255, 0), np.uint8))
    assert (
        max(view.pixels.shape[-1] * view.pixels.shape[-2] for view in predictor._encoded) <= 3 * 12
    )
    masks = predictor.soft_masks(["green", "red"])
    assert (
        masks.shape == (2, *shape)
        and bool((masks[0] > 0.5).all())
        and bool((masks[1] < 0.01).all())
    )


def test_refinement_of_large_pictures_is_bounded(monkeypatch):
    predictor = Predictor(ColourBackbone(), 24, refine="pamr")
    predictor.set_image(planted(500, 3000, 100, 100, side=200))
    seen = []
    monkeypatch.setattr(predictor._pamr, "weights", lambda image: seen.append(image.shape))
    monkeypatch.setattr(predictor._pamr, "refine", lambda weights, masks: masks)
    assert predictor.soft_masks(["red"]).shape == (1, 500, 3000)
    assert seen == [(1, 3, round(500 * REFINE_SIDE / 3000), REFINE_SIDE)]


@pytest.mark.parametrize("refine", [None, "pamr"])
def test_agrees_with_the_masks_of_a_real_backbone(small_clip, refine):
    from core.backbones import load_backbone

    backbone = load_backbone(f"local-dir:{small_clip}", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    predictor = Predictor(backbone, 37, refine=refine)
    predictor.set_image(image)
    normalized = backbone.normalize(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    text = backbone.encode_text(["a dog", "grass"])
    expected = backbone.masks(normalized, text, pamr=refine is not None)[0]
    torch.testing.assert_close(
        predictor.soft_masks(["a dog", "grass"]), expected, atol=1e-5, rtol=1e-4
    )


def test_the_default_size_is_twice_the_models():
    assert Predictor(ColourBackbone()).image_size == 48


def test_asking_before_a_picture_is_set_is_one_line(tmp_path):
    predictor = Predictor(ColourBackbone())
    for ask in (predictor.maps, predictor.scores, predictor.peaks, predictor.soft_masks):
        with pytest.raises(TTDError, match="set_image"):
            ask(["red"])
    predictor.set_image(planted(8, 8, 0, 0))
    with pytest.raises(TTDError, match="no such file"):
        predictor.set_image(tmp_path / "missing.png")
    with pytest.raises(TTDError, match="set_image"):  # not the previous image's maps
        predictor.maps(["red"])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_arrays_of_another_kind_are_refused(image):
    with pytest.raises(TTDError, match="uint8"):
        Predictor(ColourBackbone()).set_image(image)


@pytest.mark.parametrize(
    "options", [{"scales": ()}, {"scales": (1.0, 0.0)}, {"image_size": 0}, {"refine": "magic"}]
)
def test_bad_settings_are_refused(options):
    with pytest.raises(TTDError):
        Predictor(ColourBackbone(), **options)


@pytest.mark.parametrize("texts", ["red", []])
def test_texts_must_be_a_list(texts):
    predictor = Predictor(ColourBackbone())
    predictor.set_image(planted(8, 8, 0, 0))
    with pytest.raises(TTDError, match="list"):
        predictor.maps(texts)


def test_crf_without_its_package_is_one_line_before_any_picture(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(TTDError, match="pydensecrf2"):
        Predictor(ColourBackbone(), refine="crf")


def test_crf_sharpens_each_mask_along_the_picture():
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is an optional extra")
    image = planted(48, 64, 12, 20, side=22)
    truth = torch.zeros(48, 64, dtype=torch.bool)
    truth[12:34, 20:42] = True
    errors = []
    for refine in (None, "crf"):
        predictor = Predictor(ColourBackbone(), 48, refine=refine)
        predictor.set_image(image)
        masks = predictor.soft_masks(["red", "blue"])
        assert masks.shape == (2, 48, 64) and masks.min() >= 0 and masks.max() <= 1
        errors.append(((masks[0] > 0.5) != truth).sum().item())
    assert errors[1] < errors[0] and errors[1] <= 10
