"""What is looked at: sizes of scales, windows, refusals, and which images share a batch."""

import numpy as np
import pytest
import torch
from colour_backbone import ColourBackbone, planted

import core.maps.views
from core.errors import TTDError
from core.maps.encode import average_maps, encode_views, finest_grid
from core.maps.views import Prepared, Views, Windows, prepare, same_shapes
from core.masks.protocol import protocol
from core.predictor import Predictor
from core.tags.protocol import TagProtocol


@pytest.mark.parametrize(
    ("size", "scales", "sides"),
    [
        (37, (0.7,), (26,)),  # 25.9: rounded, not cut
        (37, (1.0, 0.5, 1.5), (37, 18, 56)),  # 18.5 and 55.5: to the even neighbour
        (448, (1.0, 0.5, 1.5, 2.0), (448, 224, 672, 896)),
        (1, (0.1,), (1,)),  # never 0
    ],
)
def test_sides_of_scales_are_rounded(size, scales, sides):
    views = Views(size, scales)
    assert views.sides == sides
    image = np.zeros((40, 50, 3), np.uint8)
    assert [min(scaled.shape[1:]) for scaled in prepare(image, views).scaled] == list(sides)


@pytest.mark.parametrize("resize", ["antialias", "opencv"])
def test_shapes_are_those_of_the_prepared_image(resize):
    views = Views(37, (1.0, 0.7, 2.0), resize=resize)
    for size in ((40, 61), (61, 40), (3, 500)):
        prepared = prepare(np.zeros((*size, 3), np.uint8), views)
        assert prepared.shapes == views.shapes(*size)
        assert prepared.size == size


@pytest.mark.parametrize(
    ("scales", "nearest"),
    [((0.5, 1.0, 2.0), 1), ((0.5, 2.0, 1.5), 0), ((2.0, 0.75), 1), ((1.5, 0.5), 0), ((3.0,), 0)],
)
def test_nearest_scale(scales, nearest):
    """By difference, the first of equals; neither the smallest nor the first."""
    assert Views(32, scales).nearest == nearest


def test_spans_are_those_of_the_windows_or_the_whole():
    assert Views(448, windows=Windows(448, 224)).spans(597) == [(0, 448), (149, 597)]
    assert Views(448).spans(597) == [(0, 597)]


BAD = [
    ({"size": 0}, "at least 1 pixel"),
    ({"scales": ()}, "positive numbers"),
    ({"scales": (1.0, 0.0)}, "positive numbers"),
    ({"scales": (-1.0,)}, "positive numbers"),
    ({"scales": (float("nan"),)}, "positive numbers"),
    ({"scales": (float("inf"),)}, "positive numbers"),
    ({"windows": Windows(0, 1)}, "at least 1 pixel"),
    ({"windows": Windows(8, 0)}, "at least 1 pixel"),
    ({"resize": "nearest"}, "antialias, opencv"),
]


@pytest.mark.parametrize(("options", "said"), BAD)
def test_bad_values_are_one_line(options, said):
    with pytest.raises(TTDError, match=said) as error:
        Views(**{"size": 32, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (float("nan"),)])
def test_tags_masks_and_predictor_refuse_the_same(scales):
    for make in (
        lambda: TagProtocol(32, scales),
        lambda: protocol("ttd", scales=scales),
        lambda: Predictor(ColourBackbone(), scales=scales),
    ):
        with pytest.raises(TTDError, match="scales must be positive numbers"):
            make()


def test_tags_masks_and_predictor_look_at_the_same():
    scales = (1.0, 0.7)
    tags = TagProtocol(37, scales, hflip=True).views
    assert tags == Views(37, scales, hflip=True)
    assert Predictor(ColourBackbone(), 37, scales, hflip=True).views == tags
    used = protocol("ttd", image=37, scales=scales, hflip=True).resolve("x", 1, "none", 0.4)
    assert used.views == Views(37, scales, True, Windows(37, 18))
    tcl = protocol("tcl").resolve("TCL", 224, "none", 0.4).views
    assert tcl == Views(448, windows=Windows(448, 224), resize="opencv")
    naclip = protocol("naclip").resolve("CLIP", 224, "none", 0.4).views
    assert naclip == Views(336, windows=Windows(224, 112), resize="opencv")


def test_an_open_protocol_has_no_views():
    with pytest.raises(TTDError, match="resolve"):
        _ = protocol("ttd").views


def test_images_of_one_size_share_batches_of_bounded_size(monkeypatch):
    monkeypatch.setattr(core.maps.views, "FORWARD_PIXELS", 3 * 20 * 30)
    small, large, tall = ((10, 15), (20, 30)), ((40, 60), (20, 30)), ((15, 10), (30, 20))
    shapes = [small, large, small, tall, small, small, large]
    assert list(same_shapes(shapes)) == [[0, 2, 4], [5], [1], [6], [3]]
    assert list(same_shapes(shapes, copies=2)) == [[0], [2], [4], [5], [1], [6], [3]]
    assert list(same_shapes([])) == []


def test_prepared_images_have_their_scales_in_order():
    image = planted(20, 40, 3, 3)
    first, second = prepare(image, Views(20, (1.0, 0.5))).scaled
    assert torch.equal(first, torch.from_numpy(image).permute(2, 0, 1).float() / 255)
    assert second.shape == (3, 10, 20)


def test_two_images_in_a_batch_keep_their_places():
    """Maps of views of two images at two scales, mirrored too, are those of each alone."""
    views = Views(24, (1.0, 2.0), hflip=True)
    backbone = ColourBackbone()
    images = [planted(24, 32, 2, 3), planted(24, 32, 15, 20)]
    prepared = [prepare(image, views) for image in images]
    text = backbone.encode_text(["red", "blue"])
    together, _ = encode_views(backbone, prepared, views)
    assert [(len(view.pixels), view.mirrored) for view in together] == [(2, False), (2, True)] * 2
    assert finest_grid(together).cols.cells == 8  # 64 pixels wide at scale 2
    maps = average_maps(backbone, together, text)
    for row, one in enumerate(prepared):
        alone = average_maps(backbone, encode_views(backbone, [one], views)[0], text)
        torch.testing.assert_close(maps[row], alone[0])


class Pooled(ColourBackbone):
    """Its pooled embedding is the image's top left colour, not of unit length, and its height."""

    def encode_both(self, images):
        corner = torch.cat([images[:, :, 0, 0], images.new_zeros(len(images), 1)], 1)
        return self.encode_pixels(images), 3.0 * corner + images.shape[-2] / 100


def test_pooled_embeddings_come_from_the_scale_nearest_to_one_and_both_mirrors():
    """Unit length first, then the mean: worked out by hand from the two corners."""
    image = planted(24, 24, 0, 0, side=12)  # red at the left, blue at the right
    views = Views(24, (0.5, 1.0, 2.0), hflip=True)
    _, pooled = encode_views(Pooled(), [prepare(image, views)], views, pooled=True)
    left = torch.tensor([3.24, 0.24, 0.24, 0.24])
    right = torch.tensor([0.24, 0.24, 3.24, 0.24])
    want = (left / left.norm() + right / right.norm()) / 2
    torch.testing.assert_close(pooled, want[None])
    assert encode_views(Pooled(), [prepare(image, views)], views)[1] is None


def test_prepared_shapes_are_height_then_width():
    assert Prepared((4, 6), (torch.zeros(3, 8, 12), torch.zeros(3, 4, 6))).shapes == (
        (8, 12),
        (4, 6),
    )
