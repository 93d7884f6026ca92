"""The template source against lists worked out by hand, each rule hit once."""

import pytest

from core.grounding.pseudo_labels.objects import targets_of, without_overlaps
from core.grounding.pseudo_labels.scenes import Detection, Scene
from core.grounding.pseudo_labels.spatial import spatial_words
from core.grounding.pseudo_labels.template import all_phrases, template_phrases
from core.grounding.pseudo_labels.vocabulary import Vocabulary, load_vocabulary

WORDS = Vocabulary(
    people=frozenset({"man", "woman"}),
    hat=frozenset({"hat"}),
    shirt=frozenset({"shirt", "white shirt"}),
    pants=frozenset({"jeans", "shoes"}),
    shoes=frozenset({"shoes"}),
)


def scene(*objects, size=(640, 480), **more):
    return Scene("a.jpg", *size, tuple(Detection(*item) for item in objects), **more)


def texts(scene, objects=3, **more):
    return [item.text for item in all_phrases(scene, WORDS, objects, **more)]


def test_one_thing_has_its_name_alone():
    assert texts(scene(("dog", (100, 100, 300, 300), 0.9))) == ["dog"]


def test_two_things_of_a_class_are_told_apart_by_side_and_depth():
    # Centres 150 and 500 (left, right), 170 and 200 (30 apart: no top), areas 40,000 and 2/5 of it.
    found = texts(scene(("dog", (50, 70, 250, 270), 0.9), ("dog", (450, 128, 550, 272), 0.8)))
    assert found == [
        "dog", "dog left", "left dog", "dog on the left", "dog front", "front dog",
        "dog in the front", "dog", "dog right", "right dog", "dog on the right", "dog behind",
        "behind dog", "dog in the behind",
    ]  # fmt: skip


def test_attributes_are_said_before_the_class_and_not_twice():
    found = scene(
        ("shirt rack", (0, 100, 300, 300), 0.9, "red", 0.31),
        ("white car", (320, 100, 600, 300), 0.8, "white", 0.9),
        ("dog", (320, 310, 600, 470), 0.7, "brown", 0.3),  # must be more certain than that
    )
    assert texts(found) == ["red shirt rack", "white car", "dog"]
    assert all_phrases(found, WORDS, 1)[0].box == (1, 100, 300, 300)  # a corner at 0 becomes 1


def test_a_person_is_also_called_by_what_it_wears_and_where_it_is():
    people = scene(
        ("man", (100, 100, 300, 460), 0.9),
        ("woman", (400, 100, 600, 460), 0.95),
        ("hat", (150, 110, 250, 160), 0.9, "blue", 0.9),  # centre 135: height 0.90 of the man
        ("hat", (450, 200, 550, 260), 0.9),  # centre 230: height 0.64 of the woman, no hat there
        ("jeans", (420, 300, 580, 450), 0.8),  # centre 375: height 0.24
        ("shirt", (90, 180, 130, 280), 0.8),  # three quarters of it on the man: not more
        ("shoes", (150, 120, 250, 140), 0.7),  # looked up as pants, and too high for them
    )
    assert texts(people) == [
        "woman", "woman jeans", "jeans woman",
        "man", "man blue hat", "blue hat man",
    ]  # fmt: skip


def test_garment_and_place_in_every_order():
    people = scene(
        ("man", (20, 100, 220, 460), 0.9),
        ("man", (400, 100, 600, 460), 0.3),
        ("hat", (70, 110, 170, 160), 0.9),
    )
    assert texts(people, 1) == [
        "man", "man left", "left man", "man on the left",
        "man hat", "hat man",
        "man hat left", "man left hat", "hat man left", "hat left man", "left man hat",
        "left hat man", "man hat on the left", "man on the left hat", "hat man on the left",
    ]  # fmt: skip


def test_people_come_first_and_things_fill_up_by_certainty():
    found = scene(
        ("dog", (10, 10, 200, 200), 0.99),
        ("cat", (210, 10, 400, 200), 0.5),
        ("car", (410, 10, 600, 200), 0.7),
        ("man", (10, 220, 200, 470), 0.1),
    )
    assert texts(found, 3) == ["man", "dog", "car"]
    assert texts(found, 1) == ["man"]


def test_tiny_and_inverted_boxes_are_dropped_and_garments_may_be_tiny():
    least = 640 * 480 / 64  # 4800
    found = scene(
        ("dog", (100, 100, 180, 160), 0.9),  # 80 x 60 = 4800: large enough
        ("cat", (300, 100, 379, 160), 0.9),
        ("car", (500, 300, 400, 400), 0.9),
        ("man", (400, 100, 600, 460), 0.9),
        ("hat", (480, 105, 490, 115), 0.9),
    )
    assert least == 4800
    assert [t.label for t in targets_of(found, WORDS)] == ["man", "dog"]
    assert targets_of(found, WORDS)[0].worn == ("hat",)


def test_of_two_that_overlap_the_less_certain_goes_and_a_loser_still_beats_others():
    first = Detection("dog", (0, 0, 100, 100), 0.9)
    second = Detection("cat", (0, 0, 100, 140), 0.8)  # IoU 0.71 with the first
    third = Detection("fox", (0, 40, 100, 180), 0.7)  # 0.33 with the first, 0.56 with the second
    assert without_overlaps([first, second, third]) == [first]
    assert without_overlaps([first, third]) == [first, third]
    equal = Detection("cow", (0, 0, 100, 100), 0.9)
    assert without_overlaps([first, equal]) == [first]


def test_attributes_of_a_second_detector_go_to_the_same_object_and_the_last_match_wins():
    others = (
        Detection("dog", (100, 100, 300, 300), 0.5, "old", 0.9),
        Detection("dog", (100, 250, 300, 500), 0.9, "big", 0.9),  # IoU 0.14: another dog
        Detection("cat", (400, 100, 600, 300), 0.9, "grey", 0.9),
    )
    found = scene(("dog", (100, 100, 300, 310), 0.9, "wet", 0.9), attributes=others)
    assert texts(found) == ["old dog"]


@pytest.mark.parametrize(
    "boxes, want",
    [
        # Three in a row, 100 apart: the outermost, and the third in the middle.
        (
            [(0, 0, 20, 20), (100, 0, 120, 20), (200, 0, 220, 20)],
            [("left",), ("middle", "center"), ("right",)],
        ),
        # Five in a row in an image of 400: beyond a quarter from the edges they share the side.
        (
            [(x, 0, x + 20, 20) for x in (0, 70, 190, 310, 380)],
            [("left",), ("left",), ("middle", "center"), ("right",), ("right",)],
        ),
        # A range of 50 is no range yet.
        ([(0, 0, 20, 20), (50, 50, 70, 70)], [(), ()]),
        # One above the other.
        ([(0, 0, 20, 20), (0, 60, 20, 80)], [("top",), ("bottom",)]),
        # Four areas 100, 35, 90, 60 on one spot: behind, behind no more than 0.4, front, neither.
        (
            [(0, 0, 10, 10), (0, 0, 5, 7), (0, 0, 9, 10), (0, 0, 6, 10)],
            [("front",), ("behind",), ("front",), ()],
        ),
        ([(0, 0, 10, 10), (0, 0, 10, 4)], [(), ()]),  # a ratio of 0.4 is none yet
        ([(0, 0, 10, 10)], [()]),
    ],
)
def test_spatial_words(boxes, want):
    assert spatial_words([tuple(map(float, box)) for box in boxes], 400, 400) == want


def test_top_is_measured_against_the_height_and_as_published_against_the_width():
    # Four in a column of an image of 1000 x 400: quarters at 100 (height) or 250 (width).
    column = [(0.0, y, 20.0, y + 20.0) for y in (0.0, 140.0, 200.0, 360.0)]
    assert spatial_words(column, 1000, 400) == [("top",), (), (), ("bottom",)]
    assert spatial_words(column, 1000, 400, parity=True) == [
        ("top",), ("top",), ("top",), ("bottom",),
    ]  # fmt: skip


def test_more_candidates_than_wanted_are_drawn_by_the_image_s_name_alone():
    found = scene(("dog", (50, 70, 250, 270), 0.9), ("dog", (450, 128, 550, 272), 0.8))
    everything = all_phrases(found, WORDS, 3)
    some = template_phrases(found, WORDS, 3, 6)
    assert len(some) == 6 and [item for item in everything if item in some] == some
    assert template_phrases(found, WORDS, 3, 6) == some
    assert template_phrases(found, WORDS, 3, 14) == everything
    drawn = {
        tuple(item.text for item in template_phrases(
            Scene(f"{n}.jpg", 640, 480, found.objects), WORDS, 3, 6)) for n in range(8)
    }  # fmt: skip
    assert len(drawn) > 4


def test_the_shipped_vocabulary():
    words = load_vocabulary()
    assert len(words.people) == 28 and words.kind("Man") == "people"
    assert words.kind("goggles") == words.kind("backpack") == words.kind("boots") == "clothes"
    assert (words.garment("scarf"), words.garment("jeans"), words.garment("shoes")) == (
        "hat", "shirt", "pants",
    )  # fmt: skip
    assert words.kind("dog") == "things"
