"""The arrangement of a panel: everything has room, sizes are bounded, columns end together."""

import itertools
import math

import pytest

from core.plots.panel_plan import MAX_PIXELS, MIN_SIDE, WIDEST, place, plan, quiet_place

SIZES = [(1, 1), (1, 5000), (5000, 1), (96, 96), (480, 640), (640, 480), (3648, 5472), (20, 300)]
COUNTS = [(1, 0), (2, 3), (5, 7), (30, 1), (0, 4), (400, 90)]


@pytest.mark.parametrize("size", SIZES)
def test_everything_has_room_and_is_bounded(size):
    for (kept, rejected), caption in itertools.product(COUNTS, (False, True)):
        layout = plan(*size, kept, rejected, caption)
        assert layout.rows * layout.columns >= kept > (layout.rows - 1) * layout.columns or not kept
        assert layout.given[0] * layout.given[1] == 1 + caption
        assert layout.quiet_rows * layout.quiet_columns >= rejected
        inside = layout.width - 2 * layout.margin
        across = layout.quiet_columns * (quiet_place(layout)[1] + layout.gap) - layout.gap
        assert across <= inside
        assert max(layout.quiet) <= max(layout.picture) <= max(layout.large)
        assert layout.picture[0] * layout.picture[1] * kept <= 1.05 * MAX_PIXELS


def test_shapes_are_kept():
    for height, width in ((480, 640), (640, 480), (300, 1200), (1600, 720)):
        layout = plan(height, width, 5, 4, True)
        for shown in (layout.picture, layout.large, layout.quiet):
            assert math.isclose(shown[0] / shown[1], height / width, rel_tol=0.04)


def test_one_word_stands_beside_the_image_at_its_own_size():
    layout = plan(480, 640, 1)
    assert layout.picture == layout.large == (480, 640)
    assert (layout.columns, layout.rows, layout.given) == (1, 1, (1, 1))


def test_small_images_grow_and_large_panels_stay_printable():
    assert max(plan(60, 80, 3).picture) == MIN_SIDE
    for words in (1, 4, 9, 20):
        assert plan(3648, 5472, words, 3, True).width <= 1.3 * WIDEST


def test_the_image_and_the_captions_map_end_where_the_words_do():
    for words in (4, 6, 12):
        layout = plan(480, 640, words, 0, True)
        assert layout.given == (1, 2) and layout.rows > 1
        assert abs(layout.given_height - layout.grid_height) <= 3


def test_rejected_words_are_much_smaller():
    layout = plan(480, 640, 4, 6, True)
    assert layout.quiet[1] <= 0.5 * layout.picture[1]
    assert layout.small < layout.text


def test_places_are_wide_enough_for_a_word():
    assert place((256, 24))[1] == 200 and place((256, 300)) == (256, 300)
