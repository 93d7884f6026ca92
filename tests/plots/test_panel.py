"""The panel: what stands where, what is large and what is quiet, and what the texts say."""

import numpy as np
import pytest
from PIL import Image

from core.errors import TTDError
from core.plots.heat import heat_colours, overlay, quiet_colours
from core.plots.panel import Cut, Look, Word, draw_panel, two_lines
from core.plots.panel_plan import plan
from core.plots.sheet import Box, Picture, Text

SIZES = [(1, 1), (1, 5000), (5000, 1), (96, 96), (480, 640), (20, 300)]
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8)


def words(count, size=(300, 400), scores=None):
    scores = scores or [0.1 * k for k in range(count)]
    return [Word(f"w{k}", scores[k], RNG.random(size).astype(np.float32)) for k in range(count)]


def pictures(sheet):
    return [item for item in sheet.items if isinstance(item, Picture)]


def texts(sheet):
    return [item.text for item in sheet.items if isinstance(item, Text)]


def colour_of(sheet, text):
    return next(i.colour for i in sheet.items if isinstance(i, Text) and i.text == text)


def smooth(seed, channels=()):
    """Something without detail, so that resizing changes little: float32 [300, 400, ...]."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((400, 300), Image.Resampling.BICUBIC))
    return pixels if channels else (pixels[..., 0] / 255).astype(np.float32)


def test_the_image_and_the_maps_are_on_the_sheet_where_they_are_planned():
    image, given = smooth(1, (3,)), [Word("a", 0.1, smooth(2)), Word("b", 0.2, smooth(3))]
    sheet = draw_panel(image, given)
    pixels = sheet.pixels()
    assert pixels.shape == (sheet.height, sheet.width, 3)
    expected = [image, *(heat_colours(word.values) for word in given)]
    for item, tile in zip(pictures(sheet)[:3], expected, strict=True):
        (height, width), own = item.pixels.shape[:2], Image.fromarray(tile)
        if (height, width) == tile.shape[:2]:
            np.testing.assert_array_equal(item.pixels, tile)
        shown = pixels[item.y : item.y + height, item.x : item.x + width]
        near = np.asarray(own.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(shown[1:-1, 1:-1] - near[1:-1, 1:-1]).mean() < 8  # but for its frame


def test_maps_of_another_size_are_stretched_over_the_image():
    coarse = np.array([[0, 0], [0, 1.0]])
    sheet = draw_panel(np.zeros((400, 400, 3), np.uint8), [Word("x", 0.0, coarse)])
    tile = pictures(sheet)[1].pixels
    assert tile[-1, -1].tolist() == [255, 0, 0] and tile[-1, 0].tolist() == [0, 0, 255]


def test_rejected_words_are_small_grey_and_below():
    layout = plan(300, 400, 2, 2)
    given = words(4, layout.picture)
    sheet = draw_panel(IMAGE, given, selected=[True, False, True, False])
    image, first, second, *quiet = pictures(sheet)[:5]
    assert first.pixels.shape[:2] == layout.picture and image.pixels.shape[:2] == layout.large
    np.testing.assert_array_equal(second.pixels, heat_colours(given[2].values))
    for item in quiet:
        assert item.pixels.shape[:2] == layout.quiet and layout.quiet[1] < 0.5 * layout.picture[1]
        assert (item.pixels == item.pixels[..., :1]).all()
        assert item.y > max(first.y, second.y) + layout.picture[0]
    assert colour_of(sheet, "w1") == (145, 145, 145) and colour_of(sheet, "w2") == (20, 20, 20)
    assert any("rejected" in text for text in texts(sheet))


def test_without_rejected_words_nothing_is_said_of_them():
    assert not any(
        "rejected" in text or "kept" in text for text in texts(draw_panel(IMAGE, words(3)))
    )


def test_the_captions_map_is_set_apart_from_the_words_by_a_line():
    caption = Word("a dog on grass", 0.5, RNG.random((300, 400)))
    for count in (1, 5):
        sheet = draw_panel(IMAGE, words(count), caption=caption)
        image, whole, *rest = pictures(sheet)[: 2 + count]
        line = next(i for i in sheet.items if isinstance(i, Box) and i.width == 2)
        for item in (image, whole):
            assert item.x + item.pixels.shape[1] < line.x
        assert all(item.x > line.x for item in rest)
        assert "whole caption" in texts(sheet) and "0.50" in texts(sheet)


@pytest.mark.parametrize("repeat", [1, 40])
def test_the_whole_caption_is_the_title(repeat):
    text = " ".join(["a woman waters plants with a hose"] * repeat)
    sheet = draw_panel(IMAGE, words(1), caption=Word(text, 0.1, np.zeros((2, 2))))
    top = pictures(sheet)[0].y
    lines = [i for i in sheet.items if isinstance(i, Text) and i.y < top and i.text != "image"]
    shown = " ".join(line.text for line in lines if line.text not in ("whole caption", "0.10"))
    assert f"“{text}”" in shown
    assert all(line.x + line.font.getlength(line.text) <= sheet.width for line in lines)


def test_an_overlay_lies_over_the_image():
    assert plan(300, 400, 1).picture == (300, 400)
    (word,) = words(1)
    sheet = draw_panel(IMAGE, [word], look=Look(overlay=True))
    np.testing.assert_array_equal(pictures(sheet)[1].pixels, overlay(IMAGE, word.values))
    assert (pictures(sheet)[1].pixels != quiet_colours(word.values)).any()


def test_the_legend_says_the_cut_and_the_model():
    look = Look(cut=Cut(0.25, "by Otsu"), note="tiny, 96 px")
    given = words(2, scores=[0.1, 0.4])
    shown = texts(draw_panel(IMAGE, given, selected=[False, True], look=look))
    assert any("above 0.25, by Otsu" in text for text in shown) and "tiny, 96 px" in shown


def test_numbers_that_look_like_the_cut_get_a_third_decimal():
    look = Look(cut=Cut(0.0715, "by Otsu"))
    given = words(2, scores=[0.0681, 0.0749])
    shown = texts(draw_panel(IMAGE, given, selected=[False, True], look=look))
    assert {"0.068", "0.075"} <= set(shown) and any("0.071" in t or "0.072" in t for t in shown)


def test_no_number_is_minus_zero():
    shown = texts(draw_panel(IMAGE, words(2, scores=[-0.0004, -0.3])))
    assert "0.00" in shown and "-0.30" in shown


@pytest.mark.parametrize(
    "tag", ["", " ", "a\nb\tc", "\u200b", "q" * 5000, "한국어", "🔥", "ŁĄ", "\udcff"]
)
def test_any_tag_gets_a_label_that_stays_over_its_tile(tag):
    sheet = draw_panel(IMAGE, [Word(tag, 0.5, np.zeros((2, 2)))])
    tile = pictures(sheet)[1]
    head = [i for i in sheet.items if isinstance(i, Text) and i.x >= tile.x and i.y < tile.y]
    assert len(head) >= 2 and "0.50" in [item.text for item in head]
    name, number = head[0], head[-1]
    assert name.x + name.font.getlength(name.text) <= number.x
    assert number.x + number.font.getlength(number.text) <= tile.x + 401


def test_a_tag_without_letters_is_its_row_in_the_table():
    assert "#1" in texts(draw_panel(IMAGE, [Word("\u200b", 0.5, np.zeros((2, 2)))]))
    caption = Word("x", 0.5, np.zeros((2, 2)))
    sheet = draw_panel(IMAGE, [Word("\u200b", 0.5, np.zeros((2, 2)))], caption=caption)
    assert "#2" in texts(sheet)  # the caption is the first row


@pytest.mark.parametrize("size", SIZES)
def test_panels_of_any_size_are_drawn(size):
    image, maps = np.full((*size, 3), 9, np.uint8), np.zeros((3, 4))
    given = [Word("dog", 0.5, maps), Word("cat", -0.25, maps)]
    for selected in (None, [True, False], [False, False]):
        sheet = draw_panel(image, given, selected=selected, caption=Word("a dog", 0.1, maps))
        assert sheet.pixels().shape == (sheet.height, sheet.width, 3)
        for item in pictures(sheet):
            assert item.x + item.pixels.shape[1] <= sheet.width
            assert item.y + item.pixels.shape[0] <= sheet.height


def test_there_must_be_a_flag_per_word():
    with pytest.raises(TTDError, match="one of each per word"):
        draw_panel(IMAGE, words(2), selected=[True])


def test_a_phrase_too_long_for_its_place_stands_in_two_lines():
    given = words(20)
    given[3] = Word("woman riding a bicycle", 0.3, given[3].values)
    given[5] = Word("antidisestablishmentarianism", 0.3, given[5].values)  # not broken
    sheet = draw_panel(IMAGE, given)
    own = [one for one in sheet.items if isinstance(one, Text) and one.text in given[3].text]
    assert " ".join(one.text for one in own) == given[3].text and len(own) == 2
    tile = next(one for one in pictures(sheet) if one.y > own[0].y and one.x >= own[0].x)
    assert own[1].y + 0.2 * own[1].font.size < tile.y  # letters below the line, too
    assert own[0].x == own[1].x and own[0].y < own[1].y - 0.9 * own[1].font.size
    assert two_lines("a b", 20, 500) == ["a b"]
    (cut,) = [text for text in texts(sheet) if text.startswith("antidis")]
    assert cut.endswith("...")
