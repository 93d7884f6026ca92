"""The panel: colours, places, labels at any size of image and number of tags."""

import math

import numpy as np
import pytest
from PIL import ImageFont

from core.errors import TTDError
from core.plots import fonts
from core.plots.fonts import drawable, find_font
from core.plots.panel import (
    GAP,
    MAX_PIXELS,
    MAX_SIDE,
    MIN_SIDE,
    blend,
    draw_panel,
    heat_colours,
    plan,
)

SIZES = [(1, 1), (1, 5000), (5000, 1), (96, 96), (480, 640), (640, 480), (3648, 5472), (20, 300)]


@pytest.fixture
def no_installed_fonts(monkeypatch):
    """As on a machine with Pillow's own font alone."""
    find_font.cache_clear()
    monkeypatch.setattr(fonts, "_installed", lambda: ())
    yield
    find_font.cache_clear()


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        (0, (0, 0, 255)),
        (0.25, (128, 128, 255)),
        (0.5, (255, 255, 255)),
        (0.75, (255, 128, 128)),
        (1, (255, 0, 0)),
        (-3, (0, 0, 255)),
        (7, (255, 0, 0)),
        (np.nan, (0, 0, 255)),
    ],
)
def test_heat_colours(value, colour):
    np.testing.assert_array_equal(
        heat_colours(np.full((2, 3), value)), np.broadcast_to(colour, (2, 3, 3))
    )


def test_heat_colours_never_step_backwards():
    red, green, blue = heat_colours(np.linspace(0, 1, 1001)).astype(int).T
    assert (np.diff(red) >= 0).all() and (np.diff(blue) <= 0).all()
    assert (np.diff(green[:501]) >= 0).all() and (np.diff(green[500:]) <= 0).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tags", [1, 2, 7, 30, 400])
def test_plans_have_room_for_everything_and_are_bounded(size, tags):
    layout = plan(*size, tags)
    assert layout.rows * layout.columns >= tags + 1 > (layout.rows - 1) * layout.columns
    assert all(p <= t for p, t in zip(layout.picture, layout.tile, strict=True))
    assert MIN_SIDE <= max(layout.picture) <= max(MAX_SIDE, MIN_SIDE)
    assert min(layout.tile) >= 96 and layout.tile[1] >= 224
    if min(size) * 4 > max(size):  # thin images sit in tiles of a minimum size
        assert math.isclose(layout.picture[0] / layout.picture[1], size[0] / size[1], rel_tol=0.02)
        assert layout.picture[0] * layout.picture[1] * (tags + 1) <= max(
            1.01 * MAX_PIXELS, (tags + 1) * MIN_SIDE**2
        )


def test_ordinary_pictures_keep_their_own_size():
    assert plan(480, 640, 5).picture == (480, 640)
    assert plan(480, 640, 2).columns == 3  # the image and two maps side by side


def test_the_picture_and_the_maps_stand_where_they_should():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    maps = rng.random((3, 300, 400)).astype(np.float32)
    layout = plan(300, 400, 3)
    panel = draw_panel(image, maps, ["a", "b", "c"], [0.1, 0.2, 0.3])
    assert panel.shape == (*layout.size, 3) and panel.dtype == np.uint8
    for index, expected in enumerate([image, *heat_colours(maps)]):
        y = GAP + index // layout.columns * (300 + GAP)
        x = GAP + index % layout.columns * (400 + GAP)
        tile = panel[y : y + 300, x : x + 400]
        np.testing.assert_array_equal(tile[60:], expected[60:])  # below the label
        np.testing.assert_array_equal(tile[:, 200:], expected[:, 200:])  # right of it
        assert (tile == expected).all() == (index == 0)  # only the image has no label


def test_maps_of_another_size_are_stretched_over_the_picture():
    coarse = np.array([[[0, 0], [0, 1.0]]])
    panel = draw_panel(np.zeros((400, 400, 3), np.uint8), coarse, ["x"], [0.0])
    tile = panel[GAP : GAP + 400, 2 * GAP + 400 : 2 * GAP + 800]
    assert tuple(tile[-1, -1]) == (255, 0, 0) and tuple(tile[-1, 0]) == tuple(tile[399, 20]) == (
        0,
        0,
        255,
    )


def test_overlay_shows_the_picture_through_the_heat():
    image = np.zeros((4, 4, 3), np.uint8)
    image[2:] = 255
    result = blend(image, np.broadcast_to(np.array([255, 0, 0], np.uint8), (4, 4, 3)))
    assert tuple(result[0, 0]) == (153, 0, 0) and tuple(result[3, 3]) == (255, 102, 102)


def test_the_image_under_the_heat_is_grey():
    image = np.broadcast_to(np.array([90, 60, 0], np.uint8), (2, 2, 3))  # grey 50
    heat = np.broadcast_to(np.array([0, 0, 255], np.uint8), (2, 2, 3))
    assert blend(image, heat)[0, 0].tolist() == [20, 20, 173]  # 0.6 heat + 0.4 grey


def label_pixels(tag, selected=True, size=(300, 400)):
    """The label of one tag on an empty map: bool [H, W] of pixels that the label changed."""
    image = np.zeros((*size, 3), np.uint8)
    panel = draw_panel(image, np.zeros((1, *size)), [tag], [0.5], selected=[selected])
    picture, tile = plan(*size, 1).picture, panel[:, 2 * GAP + size[1] :]
    assert picture == size
    return (tile != (0, 0, 255)).any(-1)[GAP : GAP + size[0], : size[1]]


def test_long_tags_stay_inside_their_tile():
    short, long = label_pixels("dog"), label_pixels("a very long tag " * 30)
    assert 0.05 < short.any(0).mean() < 0.5 < long.any(0).mean() < 1
    assert short.any(1).sum() <= 45 and long.any(1).sum() <= 45  # one line


@pytest.mark.parametrize(
    "tag", ["", " ", "a\nb\tc", "\u200b", "q" * 5000, "한국어", "🔥", "ŁĄ", "\udcff"]
)
def test_any_tag_gets_a_label(tag):
    assert label_pixels(tag).any()


@pytest.mark.parametrize("size", SIZES)
def test_panels_of_any_size_are_drawn(size):
    panel = draw_panel(
        np.full((*size, 3), 9, np.uint8), np.zeros((2, 3, 4)), ["dog", "cat"], [0.5, -0.25]
    )
    assert panel.shape == (*plan(*size, 2).size, 3)


def test_tags_that_were_not_chosen_look_different():
    image, maps = np.zeros((300, 400, 3), np.uint8), np.zeros((1, 300, 400))
    on = draw_panel(image, maps, ["dog"], [0.5], selected=[True])
    assert (on == draw_panel(image, maps, ["dog"], [0.5])).all()
    assert (on != draw_panel(image, maps, ["dog"], [0.5], selected=[False])).any()


def test_lengths_must_agree():
    with pytest.raises(TTDError, match="one of each per tag"):
        draw_panel(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4)), ["a"], [0.5])


def test_without_fonts_accents_are_dropped_and_other_scripts_refused(no_installed_fonts):
    assert drawable("dog", 20)[0] == "dog"
    assert drawable("cr\u00e8me br\u00fbl\u00e9e", 20)[0] in (
        "creme brulee",
        "cr\u00e8me br\u00fbl\u00e9e",
    )
    assert drawable("한국어", 20) is None
    assert drawable("\n\u200b ", 20) is None
    assert label_pixels("한국어").any()  # its number instead


def test_a_font_is_chosen_for_its_letters():
    class Font:
        """Draws 'a' and digits; everything else is the same box."""

        def getmask(self, c):
            return Mask(c if c in "a" + fonts.NUMBERS else "box")

    class Mask(bytes):
        size = (1, 1)

        def __new__(cls, text):
            return super().__new__(cls, text.encode())

    assert fonts._covers(Font(), "aa a1") and not fonts._covers(Font(), "ab")


def test_shortening_keeps_the_score_and_fits():
    from core.plots.panel import _shorten

    font = ImageFont.load_default(size=20)
    text = _shorten("a very long tag indeed", ": 0.31", font, 120)
    assert text.endswith("...: 0.31") and text.startswith("a v") and font.getlength(text) <= 120
    assert _shorten("dog", ": 0.31", font, 120) == "dog: 0.31"
