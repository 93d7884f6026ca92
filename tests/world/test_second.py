"""The second world: another vocabulary, its truth, and that the first one is untouched by it."""

import numpy as np
import pytest
import yaml

from core.data.heldout import load_heldout, unseen_items
from core.data.words import is_stopword, split_words
from core.errors import TTDError
from core.world.looks import LOOKS
from core.world.picture import MIN_SHARE, Contents, Thing
from core.world.sample import tag_mask
from core.world.second.captions import frame_words
from core.world.second.marks import mark
from core.world.second.picture import COLOURS, SCENES, outline, render
from core.world.second.sample import make_second_sample
from core.world.second.shapes import NOUNS
from core.world.writer import WorldConfig, made_with, make_world

NAMES = (*NOUNS, *COLOURS, *SCENES)


@pytest.fixture(scope="module")
def samples():
    return [make_second_sample(3, "val", i) for i in range(120)]


def test_no_name_is_shared_with_the_first_world_or_with_the_frame():
    first = LOOKS["first"]
    assert not set(NAMES) & {*first.nouns, *first.colours, *first.scenes}
    assert len(set(NAMES)) == len(NAMES)
    assert not set(frame_words().casefold().split()) & set(NAMES)
    assert not any(is_stopword(name) for name in NAMES)


def test_tags_are_the_named_words_that_have_pixels(samples):
    for sample in samples:
        named = [word.text.casefold() for word in split_words(sample.text)]
        shown = [t.noun for t in sample.contents.things]
        shown += [t.colour for t in sample.contents.things] + list(sample.contents.scenes)
        assert sample.tags == list(dict.fromkeys(word for word in named if word in shown))
        assert sample.tags  # at least one true word
        for tag in sample.tags:
            assert tag_mask(sample, tag).mean() >= MIN_SHARE / 2


def test_some_captions_name_what_is_not_there(samples):
    wrong = [s for s in samples if {w.text.casefold() for w in split_words(s.text)} & set(NAMES)
             - set(s.tags)]  # fmt: skip
    assert 0.15 < len(wrong) / len(samples) < 0.45


def test_a_sample_depends_on_its_index_alone(samples):
    again = make_second_sample(3, "val", 17)
    assert again.text == samples[17].text and np.array_equal(again.image, samples[17].image)
    assert not np.array_equal(again.image, make_second_sample(4, "val", 17).image)


def test_the_layout_is_read_as_the_first_worlds(tmp_path):
    config = WorldConfig(train=3, val=4, seed=5, look="second")
    world = make_world(tmp_path, config)
    assert world["classes"] == list(NOUNS) and world["unseen_ids"] == {}
    assert made_with(tmp_path / "world.yaml")["look"] == "second"
    items = load_heldout(tmp_path)
    assert len(items) == 4 and not unseen_items(tmp_path, items)
    assert yaml.safe_load((tmp_path / "world.yaml").read_text())["scenes"] == list(SCENES)


def thing(noun, angle=0.0):
    """A black thing of the image's whole side, in its middle."""
    return Thing(noun, "black", 0.5, 0.5, 0.5, angle)


@pytest.mark.parametrize(
    ("noun", "angle", "expected"),
    [
        ("lamp", 0, [True, False, False, False]),
        ("lamp", 90, [False, True, False, False]),  # its top turns clockwise, to the right
        ("lamp", 180, [False, False, True, False]),
        ("magnet", 0, [False, False, True, False]),
        ("hat", 0, [False, True, False, True]),
        ("spiral", 30, [False, False, False, False]),
    ],
)
def test_a_mark_turns_with_its_thing(noun, angle, expected):
    above_right_below_left = ((50, 10), (90, 50), (50, 90), (10, 50))
    marked = mark(thing(noun, angle), 100)
    assert [bool(marked[y, x]) for x, y in above_right_below_left] == expected


def test_marks_tell_things_apart():
    """Marks of two nouns differ on a tenth of the area that both things cover, or more."""
    marks = [mark(thing(noun), 96) for noun in NOUNS]
    areas = [outline(thing(noun), 96) for noun in NOUNS]
    for i in range(len(NOUNS)):
        for j in range(i):
            both = areas[i] & areas[j]
            assert (marks[i] ^ marks[j])[both].mean() > 0.1, (NOUNS[i], NOUNS[j])


def test_the_third_look_has_the_things_places_and_captions_of_the_second(samples):
    third = LOOKS["third"].make(3, "val", 17, 96, 0.0)
    second = samples[17]
    assert third.text == second.text and third.tags == second.tags
    assert np.array_equal(third.index, second.index)
    assert not np.array_equal(third.image, second.image)


def test_both_tones_of_a_dark_and_of_a_light_thing_are_seen():
    for colour in COLOURS:
        one = Thing("hat", colour, 0.5, 0.5, 0.45, 0.0)
        image = render(Contents((one,), ("concrete",)), np.random.default_rng(0), 96, marked=True)
        area, marked = outline(one, 96), mark(one, 96)
        tones = [image[area & part].mean(0) for part in (marked, ~marked)]
        assert np.abs(tones[0] - tones[1]).max() > 40, colour


def test_the_first_look_is_not_recorded():
    assert "look" not in WorldConfig().recorded()


@pytest.mark.parametrize(
    "config", [WorldConfig(look="fourth"), WorldConfig(look="third", noise=0.5)]
)
def test_what_no_look_has_is_refused(tmp_path, config):
    with pytest.raises(TTDError, match="look"):
        make_world(tmp_path / "x", config)
