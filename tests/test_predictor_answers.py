"""What goes into a Predictor and comes out of it: any image, label maps, COCO masks, many images.

The backbone's words are colours, so every answer is known from the image.
"""

import json
import re

import numpy as np
import pytest
import torch
from colour_backbone import ColourBackbone, planted
from PIL import Image

from core.backbones.own_settings import OwnSettings
from core.errors import TTDError
from core.predictor import Predictor


class Painter(ColourBackbone):
    """Finds its colour in any prompt, and has the names that the cache of prompts asks for."""

    arch, checksum, tokenizer_key = "painter", "painter", "painter"
    own = OwnSettings()

    def encode_text(self, texts):
        found = [next(word for word in self.words if word in text) for text in texts]
        return super().encode_text(found)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def predictor():
    """Cells of one pixel: maps are exact."""
    return Predictor(Painter(patch=1), image_size=24)


def three_colours():
    """24 x 32: red left, green in the middle, black right."""
    image = np.zeros((24, 32, 3), np.uint8)
    image[:, :8, 0] = 255
    image[:, 8:20, 1] = 255
    return image


def test_a_label_map_numbers_the_classes_from_1_and_0_is_the_background(predictor):
    predictor.set_image(three_colours())
    labels = predictor.label_map(["green", "red"])
    assert labels.dtype == np.uint8
    expected = np.zeros((24, 32), np.uint8)
    expected[:, :8], expected[:, 8:20] = 2, 1
    assert np.array_equal(labels, expected)
    everywhere = predictor.label_map(["green", "red"], background=False)
    assert set(np.unique(everywhere)) == {1, 2} and np.array_equal(
        everywhere[:, :20], labels[:, :20]
    )
    labels[:] = 7  # the caller's own
    assert np.array_equal(predictor.label_map(["green", "red"]), expected)


def test_label_maps_of_one_image_are_not_those_of_the_next(predictor):
    predictor.set_image(three_colours())
    before = predictor.label_map(["red"])
    predictor.set_image(three_colours()[:, ::-1])
    assert np.array_equal(predictor.label_map(["red"]), before[:, ::-1])


def rle_by_hand(text):
    """COCO's compressed counts read as its documentation says: 5 bits a character, differences."""
    counts, value, shift = [], 0, 0
    for char in text:
        bits = ord(char) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def test_coco_masks_decode_to_the_label_map(predictor):
    predictor.set_image(three_colours())
    entries = json.loads(json.dumps(predictor.to_coco_rle(["green", "blue", "red"])))
    assert [(e["category_id"], e["category"]) for e in entries] == [(1, "green"), (3, "red")]
    green, red = entries
    assert green["bbox"] == [8, 0, 12, 24] and red["bbox"] == [0, 0, 8, 24]
    assert green["area"] == 12 * 24 and red["area"] == 8 * 24
    assert green["segmentation"]["size"] == [24, 32]
    assert rle_by_hand(green["segmentation"]["counts"]) == [8 * 24, 12 * 24, 12 * 24]
    assert rle_by_hand(red["segmentation"]["counts"]) == [0, 8 * 24, 24 * 24]


def test_an_overlay_tints_classes_and_leaves_the_background_as_it_was(predictor):
    image = three_colours()
    image[:, 20:] = (90, 90, 90)
    predictor.set_image(image)
    drawn = predictor.overlay(["red"])
    labels = predictor.label_map(["red"])
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert np.array_equal(drawn[labels == 0], image[labels == 0])
    assert (drawn[labels == 1] != image[labels == 1]).any(-1).all()
    assert predictor.overlay(["red"], legend=True).shape[0] > 24


PNG_MODES = ["L", "RGB", "RGBA", "P", "LA", "CMYK", "1"]


@pytest.mark.parametrize("mode", PNG_MODES)
def test_a_pillow_image_is_what_its_file_is(predictor, tmp_path, mode):
    image = Image.fromarray(planted(20, 28, 3, 9)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    answers = []
    for given in (image, path, str(path), Image.open(path)):
        predictor.set_image(given)
        answers.append(predictor.maps(["red", "blue"]))
    assert all(torch.equal(answers[0], answer) for answer in answers[1:])


def test_a_turned_photograph_is_turned_upright(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(planted(20, 28, 3, 9)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        predictor.set_image(opened)
    assert predictor.size == (28, 20)


ARRAYS = {
    "reversed": lambda image: np.ascontiguousarray(image[::-1])[::-1],
    "read-only": lambda image: np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
    "Fortran": np.asfortranarray,
    "opaque": lambda image: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
    "tensor": lambda image: torch.from_numpy(image).permute(2, 0, 1),
}


@pytest.mark.parametrize("form", ARRAYS)
def test_forms_of_one_image_have_one_answer(predictor, form):
    image = planted(20, 28, 3, 9)
    predictor.set_image(image)
    expected = predictor.maps(["red", "blue"])
    predictor.set_image(ARRAYS[form](image))
    assert torch.equal(predictor.maps(["red", "blue"]), expected)


@pytest.mark.parametrize("shape", [(20, 28), (20, 28, 1)])
def test_grey_is_three_equal_channels(predictor, shape):
    grey = np.random.default_rng(0).integers(0, 256, (20, 28), np.uint8)
    predictor.set_image(np.dstack([grey] * 3))
    expected = predictor.maps(["red"])
    for given in (grey.reshape(shape), torch.from_numpy(grey.reshape(shape[:2]))):
        predictor.set_image(given)
        assert torch.equal(predictor.maps(["red"]), expected)


def test_transparent_pixels_are_white(predictor):
    image = np.dstack([planted(8, 8, 2, 2), np.zeros((8, 8), np.uint8)])
    predictor.set_image(image)
    transparent = predictor.maps(["red"])
    predictor.set_image(np.full((8, 8, 3), 255, np.uint8))
    assert torch.equal(transparent, predictor.maps(["red"]))


def test_the_callers_array_may_change_afterwards(predictor):
    image = three_colours()
    predictor.set_image(image)
    image[:] = 0
    assert predictor.label_map(["red"]).any()


BAD_IMAGES = {
    "floats": (np.zeros((4, 4, 3)), "uint8"),
    "float tensor": (torch.zeros(3, 4, 4), "uint8"),
    "bfloat16": (torch.zeros(3, 4, 4, dtype=torch.bfloat16), "uint8"),
    "16 bits": (np.zeros((4, 4, 3), np.uint16), "uint8"),
    "switches": (np.zeros((4, 4), bool), "uint8"),
    "two channels": (np.zeros((4, 4, 2), np.uint8), "RGB"),
    "channels first": (np.zeros((3, 4, 5), np.uint8), "transpose"),
    "tensor, channels last": (torch.zeros(5, 5, 3, dtype=torch.uint8), "channels first"),
    "nothing": (np.zeros((0, 4, 3), np.uint8), "RGB"),
    "several": (np.zeros((2, 4, 4, 3), np.uint8), "several images"),
    "a list": ([planted(4, 4, 0, 0)], "list"),
    "None": (None, "NoneType"),
    "bytes": (b"\x89PNG", "bytes"),
    "no file": ("nowhere.png", "no such file"),
    "empty Pillow": (Image.new("RGB", (0, 3)), "0x3"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_what_is_no_image_is_one_line(predictor, kind):
    image, reason = BAD_IMAGES[kind]
    predictor.set_image(planted(8, 8, 0, 0))
    with pytest.raises(TTDError, match=reason) as raised:
        predictor.set_image(image)
    assert "\n" not in str(raised.value)
    with pytest.raises(TTDError, match="no image yet"):
        predictor.label_map(["red"])


BAD_QUESTIONS = {
    "one string": lambda p: p.label_map("red"),
    "no class": lambda p: p.to_coco_rle([]),
    "a number": lambda p: p.scores([1]),
    "blank": lambda p: p.maps(["red", "  "]),
    "None": lambda p: p.scores(None),
    "twice": lambda p: p.label_map(["red", "Red "]),
    "background": lambda p: p.label_map(["background", "red"]),
    "synonyms": lambda p: p.label_map(["red||blue"]),
    "too many": lambda p: p.label_map([f"red {k}" for k in range(255)]),
    "threshold": lambda p: p.overlay(["red"], 1.5),
    "threshold, text": lambda p: p.overlay(["red"], "0.4"),
    "threshold, NaN": lambda p: p.overlay(["red"], float("nan")),
    "threshold, list": lambda p: p.overlay(["red"], [0.4]),
    "templates": lambda p: p.label_map(["red"], templates="mine"),
    "templates, list": lambda p: p.maps(["red"], ["a {}"]),
    "size": lambda p: p.maps(["red"], size=8),
    "size 0": lambda p: p.soft_masks(["red"], size=(0, 8)),
    "size, floats": lambda p: p.soft_masks(["red"], size=(8.0, 8.0)),
}


@pytest.mark.parametrize("kind", BAD_QUESTIONS)
def test_bad_questions_are_one_line(predictor, kind):
    predictor.set_image(planted(8, 8, 0, 0))
    with pytest.raises(TTDError) as raised:
        BAD_QUESTIONS[kind](predictor)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": "448"},
        {"image_size": 44.5},
        {"scales": 1.0},
        {"scales": "1.0"},
        {"scales": ["1.0"]},
        {"scales": (float("nan"),)},
        {"refine": ["pamr"]},
        {"pictures": 0},
    ],
)
def test_bad_settings_are_one_line(options):
    with pytest.raises(TTDError):
        Predictor(Painter(), **options)


def test_a_models_name_is_no_model():
    with pytest.raises(TTDError, match=re.escape("load_backbone('tiny')")):
        Predictor("tiny")


def test_numpy_numbers_and_strings_are_as_good(predictor):
    mine = Predictor(Painter(patch=1), np.int64(24), np.array([1.0]))
    for one in (predictor, mine):
        one.set_image(three_colours())
    labels = mine.label_map(np.array(["red", "green"]), np.float32(0.4))
    assert np.array_equal(labels, predictor.label_map(("red", "green"), np.float32(0.4)))
    assert json.dumps(mine.to_coco_rle(np.array(["red"])))


def mixture(tmp_path):
    """Eleven images of two sizes in every form."""
    images = [planted(16, 16, k % 12, 3) for k in range(10)] + [planted(16, 40, 3, 30)]
    Image.fromarray(images[1]).save(tmp_path / "one.png")
    given = list(images)
    given[1] = tmp_path / "one.png"
    given[2] = Image.fromarray(images[2])
    given[3] = torch.from_numpy(images[3]).permute(2, 0, 1)
    return images, given


def test_many_images_have_the_answers_of_each_alone_in_order(tmp_path):
    images, given = mixture(tmp_path)
    many, alone = (Predictor(Painter(patch=4), 16, (1.0, 0.5), hflip=True) for _ in range(2))
    scores = [one.scores(["red", "blue"]) for one in many.each(given)]
    assert len(scores) == 11 and many.backbone.calls["pixels"] == 2 * 3  # 8 + 2 + 1 images
    for image, score in zip(images, scores, strict=True):
        alone.set_image(image)
        torch.testing.assert_close(score, alone.scores(["red", "blue"]))
    for image, one in zip(images, many.each(iter(given)), strict=True):
        alone.set_image(image)
        assert np.array_equal(one.label_map(["red"]), alone.label_map(["red"]))


def test_a_bad_image_among_many_comes_after_the_good_ones_before_it(predictor):
    good = planted(16, 16, 2, 3)
    seen = []
    with pytest.raises(TTDError, match="image 2: float64"):
        for one in predictor.each([good, good, good / 255, good]):
            seen.append(one.size)
    assert seen == [(16, 16)] * 2
    with pytest.raises(TTDError, match="no image yet"):
        predictor.scores(["red"])
    assert list(predictor.each([])) == []
    with pytest.raises(TTDError, match="set_image"):
        next(predictor.each("one.png"))


FLAGS = "--templates simple --scales 1.0 0.5 --hflip --pamr --image 96 --bg 0.5"
ASKED = {"image_size": 96, "scales": (1.0, 0.5), "hflip": True, "refine": "pamr"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "asked", "how"),
    [(FLAGS, ASKED, {"templates": "simple", "background_threshold": 0.5}), ("", {}, {})],
)
def test_a_label_map_is_the_file_that_the_script_writes(tmp_path, flags, asked, how):
    import produce_masks_from_tags
    from core.backbones import load_backbone
    from core.utils.shipped import demo_image

    with Image.open(demo_image()) as opened:
        image = opened.convert("RGB").resize((250, 170))
    (tmp_path / "photos").mkdir()
    image.save(tmp_path / "photos" / "a.png")
    (tmp_path / "set.yaml").write_text(
        "images: photos\nclasses: [house, bird|owl, tree]\nbackground: 0\n", encoding="utf-8"
    )
    out = ["--out", str(tmp_path / "out"), "--data", str(tmp_path / "set.yaml")]
    assert produce_masks_from_tags.main([*flags.split(), "--device", "cpu", *out]) == 0
    (made,) = (tmp_path / "out").glob("*/a.png")
    predictor = Predictor(load_backbone("tiny", device="cpu"), **asked)
    predictor.set_image(image)
    labels = predictor.label_map(["house", "bird|owl", "tree"], **how)
    assert len(np.unique(labels)) > 1
    assert np.array_equal(labels, np.asarray(Image.open(made)))
