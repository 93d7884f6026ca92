"""Expressions of the referring world: what they say is true of one thing, and the box is its."""

import json
from itertools import chain

import numpy as np
import pytest

from core.errors import TTDError
from core.world.palette import unseen_pairs
from core.world.picture import Thing, index_map
from core.world.refer.expressions import ANIMALS, SPLITS, make_refer_sample, matching
from core.world.refer.writer import ReferConfig, lines_of, make_refer_world

WORDS = {"left": ("x", min), "right": ("x", max), "top": ("y", min), "bottom": ("y", max)}


def fitting_by_words(text, things):
    """Reads an expression anew, from its words alone: the numbers of the things that fit."""
    words = text.removeprefix("the ").split()
    sides = {"left of": ("x", -1), "right of": ("x", 1), "above": ("y", -1), "below": ("y", 1)}
    numbers = range(len(things))
    for phrase, (axis, sign) in sides.items():
        if f" {phrase} the " in text:
            anchor = words[-1]
            words = text.removeprefix("the ").split(f" {phrase}")[0].split()
            start = next(getattr(t, axis) for t in things if t.noun == anchor)
            numbers = [n for n in numbers if sign * (getattr(things[n], axis) - start) > 0]
            numbers = [n for n in numbers if things[n].noun != anchor]
    order = None
    for place in WORDS:
        for tail in (f"on the {place}".split(), f"at the {place}".split()):
            if words[-3:] == tail:
                words, order = words[:-3], place
    if words[0] in WORDS or words[0] in ("biggest", "smallest"):
        order, words = words[0], words[1:]
    for word in words:
        if word != "thing":
            numbers = [n for n in numbers if word in (things[n].noun, things[n].colour)]
    if order in WORDS:
        axis, best = WORDS[order]
        return [best(numbers, key=lambda n: getattr(things[n], axis))]
    if order:
        best = max if order == "biggest" else min
        return [best(numbers, key=lambda n: things[n].half)]
    return list(numbers)


@pytest.fixture(scope="module")
def samples():
    drawn = {}
    for split in SPLITS:
        drawn[split] = [make_refer_sample(3, split, i, 64) for i in range(60)]
    return drawn


def pairs_of(part):
    """The noun-colour pairs that some samples show."""
    things = chain.from_iterable(sample.contents.things for sample in part)
    return {(thing.noun, thing.colour) for thing in things}


def nouns_of(part):
    """The nouns of what some samples' expressions mean."""
    nouns = []
    for sample in part:
        things = sample.contents.things
        nouns += [things[reference.target].noun for reference in sample.references]
    return nouns


def test_expressions_fit_one_thing(samples):
    kinds, ambiguous, total = set(), 0, 0
    for sample in chain.from_iterable(samples.values()):
        for reference in sample.references:
            fits = fitting_by_words(reference.text, sample.contents.things)
            assert reference.target in fits, reference.text
            assert len(fits) == reference.fitting, reference.text
            ambiguous += len(fits) > 1
            total += 1
            meaning = reference.meaning
            kinds.add((bool(meaning.relation), meaning.order, bool(meaning.colour)))
    assert 0.01 < ambiguous / total < 0.1
    assert len(kinds) == 10


def test_boxes_are_what_is_seen(samples):
    for sample in samples["val"][:20]:
        shown = index_map(sample.contents, 64)
        for number, (left, top, right, bottom) in enumerate(sample.boxes):
            rows, columns = np.nonzero(shown == 2 + number)
            assert (left, top) == (columns.min(), rows.min())
            assert (right, bottom) == (columns.max() + 1, rows.max() + 1)


def test_splits(samples):
    unseen = set(unseen_pairs())
    assert not pairs_of(samples["train"]) & unseen and pairs_of(samples["val"]) & unseen
    for split, animals in (("testA", True), ("testB", False)):
        nouns = nouns_of(samples[split])
        assert nouns and all((noun in ANIMALS) == animals for noun in nouns)


def test_near_ties_are_left_out():
    """Two fish whose centres are 0.05 apart: neither is "the left fish"."""
    from core.world.refer.expressions import draw_references

    near = [Thing("fish", "red", 0.40, 0.2, 0.2, 0.0), Thing("fish", "blue", 0.45, 0.8, 0.2, 0.0)]
    said = []
    for i in range(40):
        said += [r.text for r in draw_references(near, np.random.default_rng(i), "val")]
    text = "; ".join(said)
    assert "top" in text
    assert not any(word in text for word in ("left", "right", "biggest", "smallest"))


def test_matching_by_hand():
    from core.world.refer.expressions import Meaning

    things = [
        Thing("fish", "red", 0.2, 0.5, 0.10, 0.0),
        Thing("fish", "blue", 0.8, 0.5, 0.20, 0.0),
        Thing("key", "red", 0.5, 0.3, 0.15, 0.0),
    ]
    assert matching(Meaning("fish"), things) == [0, 1]
    assert matching(Meaning(None, "red"), things) == [0, 2]
    assert matching(Meaning("fish", None, "right"), things) == [1]
    assert matching(Meaning("fish", None, "smallest"), things) == [0]
    assert matching(Meaning("fish", None, None, "left of", "key"), things) == [0]
    assert matching(Meaning("fish", None, None, "below", "key"), things) == [0, 1]
    assert matching(Meaning("key", None, None, "above", "fish"), things) == []


def test_on_disk(tmp_path):
    config = ReferConfig(train=5, val=4, seed=1, size=64)
    for name, workers in (("one", 1), ("two", 2)):
        make_refer_world(tmp_path / name, config, workers=workers)
    files = sorted(
        p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()
    )
    assert len(files) == 5 + 3 * 4 + 4 + 2 + 1  # images, splits, scenes and captions, refer.yaml
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    row = json.loads((tmp_path / "one/refer/train.jsonl").read_text().splitlines()[0])
    assert row == lines_of(make_refer_sample(1, "train", 0, 64))[0]
    with pytest.raises(TTDError):
        make_refer_world(tmp_path, ReferConfig(train=-1))
