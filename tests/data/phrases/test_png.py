"""Panoptic Narrative Grounding: which phrases are scored, and what is dropped."""

import json

import pytest
from PIL import Image
from small_phrases import SEGMENTS, box_mask, narrative, write_png

from core.data.phrases.bert_words import basic_words
from core.data.phrases.png import read_narratives
from core.errors import TTDError

GOOD = narrative(("In", []), ("two dogs", ["7", "300"]), ("on", []), ("grass", [70000]), (".", []))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I can't, see it.", ["i", "can", "'", "t", ",", "see", "it", "."]),
        ("Caf\u00e9\u3000au\u00a0lait", ["cafe", "au", "lait"]),
        ("a\u200bb\x00c\td", ["abc", "d"]),
        ("\u4f60\u597d x$y", ["\u4f60", "\u597d", "x", "$", "y"]),
        ("\u201cquoted\u201d -- ok", ["\u201c", "quoted", "\u201d", "-", "-", "ok"]),
        ("  ", []),
    ],
)
def test_words_of_berts_basic_tokenizer(text, words):
    assert basic_words(text) == words


def test_phrases_and_their_masks(tmp_path):
    (one,) = read_narratives(write_png(tmp_path, [GOOD])).rows
    dogs, grass = one.phrases
    assert (dogs.number, dogs.plural, dogs.thing) == (1, True, True)
    assert (grass.number, grass.plural, grass.thing) == (3, False, False)
    truth = one.truths()
    assert (truth[0] == (box_mask(*SEGMENTS[7][1]) | box_mask(*SEGMENTS[300][1]))).all()
    assert (truth[1] == box_mask(*SEGMENTS[70000][1])).all()
    assert one.image.is_file()


def test_the_last_segment_says_thing_or_stuff(tmp_path):
    rows = [narrative(("both", [7, 70000])), narrative(("both", [70000, 7]))]
    found = read_narratives(write_png(tmp_path, rows)).rows
    assert [row.phrases[0].thing for row in found] == [False, True]


def test_what_the_authors_drop(tmp_path):
    rows = [
        GOOD,
        narrative(("a dog", [7]), caption="a dog runs"),
        narrative(("a dog", []), ("runs", [])),
        narrative(("a dog", [7], False)),  # grounded, but no noun
        narrative(("I don't see", []), ("a dog", [7])),  # n't makes two words on both sides
        narrative(*[("a dog", [7]), ("and", [])] * 29),
        narrative(*[("dog", [7])] * 40),  # neighbours of one kind are one phrase to the authors
    ]
    found = read_narratives(write_png(tmp_path, rows))
    assert [row.number for row in found.rows] == [0, 4, 6]
    assert sorted(found.dropped.values()) == [1, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "140"}, "image 140 is not in"),
        ({"image_id": None}, "needs image_id"),
        (
            {"segments": [{"utterance": "x", "segment_ids": [5], "noun": True}]},
            "do not make|segment 5",
        ),
        ({"segments": "x"}, "needs image_id"),
        ({"segments": [{"utterance": "x", "segment_ids": "7", "noun": True}]}, "needs utterance"),
    ],
)
def test_malformed_narratives(tmp_path, change, message):
    row = {**GOOD, **change}
    if "segments" in change:
        row["caption"] = "x"
    write_png(tmp_path, [row])
    with pytest.raises(TTDError, match=message):
        read_narratives(tmp_path)


def test_panoptic_files_that_are_wrong(tmp_path):
    write_png(tmp_path, [GOOD])
    (one,) = read_narratives(tmp_path).rows
    Image.open(one.panoptic).convert("P").save(one.panoptic)
    with pytest.raises(TTDError, match="wanted is an RGB PNG"):
        one.truths()
    Image.new("RGB", (3, 3)).save(one.panoptic)
    with pytest.raises(TTDError, match="panoptic json says"):
        one.truths()
    one.panoptic.unlink()
    with pytest.raises(TTDError, match="no such file"):
        one.truths()
    path = tmp_path / "annotations/panoptic_val2017.json"
    path.write_text(json.dumps({"images": [{}], "annotations": [], "categories": []}))
    with pytest.raises(TTDError, match="malformed entry"):
        read_narratives(tmp_path)
