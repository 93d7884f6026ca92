"""Texts on a sheet: fonts for any letters, lines that fit, nothing lost."""

import numpy as np
import pytest
from PIL import ImageFont

from core.plots import fonts
from core.plots.fonts import drawable, find_font
from core.plots.sheet import Box, Picture, Sheet, fitted, legible, length, runs, wrapped

CAPTION = "a woman waters the plants of her garden with a long green hose in the evening sun"


@pytest.fixture
def no_installed_fonts(monkeypatch):
    """As on a machine with Pillow's own font alone."""
    find_font.cache_clear()
    monkeypatch.setattr(fonts, "_installed", lambda: ())
    yield
    find_font.cache_clear()


@pytest.mark.parametrize("room", [60, 150, 400, 5000])
@pytest.mark.parametrize("text", [CAPTION, "Donaudampfschifffahrtsgesellschaft " * 3])
def test_lines_fit_and_hold_the_whole_text(text, room):
    lines = wrapped(text, 16, room)
    assert all(ImageFont.load_default(size=16).getlength(line) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) == 1 or room < 5000


def test_lines_are_as_long_as_they_can_be():
    font, lines = ImageFont.load_default(size=16), wrapped(CAPTION, 16, 200)
    for line, following in zip(lines, lines[1:], strict=False):
        assert font.getlength(f"{line} {following.split()[0]}") > 200


def test_what_fits_stays_and_what_does_not_is_smaller_then_cut():
    assert fitted("dog", 20, 100) == ("dog", 20)
    text, size = fitted("umbrellas", 20, 80)
    assert text == "umbrellas" and 15 <= size < 20 and length(text, size) <= 80
    text, size = fitted("a very long tag indeed", 20, 80)
    assert text.endswith("...") and text.startswith("a ve") and length(text, size) <= 80


@pytest.mark.parametrize("text", ["traffic light", "teddy bear", "purple umbrella", CAPTION])
@pytest.mark.parametrize("size", [15, 27, 38])
def test_a_text_that_hardly_lacks_room_is_not_cut(text, size):
    """Letters a little smaller are not quite in proportion: one size less is often not enough."""
    for room in range(int(0.85 * length(text, size)), int(length(text, size)) + 2):
        whole, letters = fitted(text, size, room)
        assert whole == text and letters <= size and length(text, letters) <= room


def test_every_word_of_a_mixed_caption_is_drawn_or_boxes(no_installed_fonts):
    (before, own), (unknown, boxes) = runs("a house 한국어", 20)[0], runs("한국어", 20)[0]
    assert before.startswith("a house ") and unknown == "한국어"
    assert own.getname() == boxes.getname() and not legible("한국어", 20)
    assert legible("한국어 dog", 20) and length("한국어", 20) > 0


def test_without_fonts_accents_are_dropped_and_other_scripts_refused(no_installed_fonts):
    accents = "cr\u00e8me br\u00fbl\u00e9e"
    assert drawable("dog", 20)[0] == "dog"
    assert drawable(accents, 20)[0] in ("creme brulee", accents)
    assert drawable("한국어", 20) is None
    assert drawable("\n\u200b ", 20) is None


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


def test_pixels_are_those_of_pillow():
    """The sheet against the same drawn directly."""
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    sheet = Sheet(100, 60)
    sheet.items += [
        Picture(5, 7, photo),
        Box(50, 10, 20, 5, (1, 2, 3)),
        Box(5, 7, 30, 20, (9, 9, 9), False),
    ]
    long = ImageFont.load_default(15).getlength("dot")
    assert sheet.write((10, 50), "dot", 15, (200, 0, 0)) == long
    pixels = sheet.pixels()
    np.testing.assert_array_equal(pixels[8:26, 6:34], photo[1:-1, 1:-1])
    assert (pixels[7, 5:35] == 9).all() and (pixels[26, 5:35] == 9).all()
    assert (pixels[10:15, 50:70] == (1, 2, 3)).all() and (pixels[15, 50:70] == 255).all()
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 100) & (pixels[..., 2] < 100)
    rows = np.nonzero(red[35:].any(1))[0] + 35
    assert rows.max() == 49 and 36 <= rows.min() <= 41  # on the baseline, as high as its letters
