"""Captions as words: entities, what shows nothing, and tags compared with words."""

import pytest

from core.data.tag_words import matched, truth_of
from core.data.words import split_words, tag_key, unescaped


def words(text):
    found = split_words(text)
    assert all(text[word.start : word.end] == word.text for word in found)
    return [word.text for word in found]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a cat\ufe0f \u2764\ufe0f dog\u200b", ["a", "cat", "dog"]),
        ("\u200b \u200d \ufeff \u2060", []),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 family", ["family"]),
        ("\ufeffcat \u200edog\u200f", ["cat", "dog"]),
        ("... -- & \u0301", []),
        ("caf\u00e9 cafe\u0301, \u0939\u093f\u0928\u094d\u0926\u0940",
         ["caf\u00e9", "cafe\u0301", "\u0939\u093f\u0928\u094d\u0926\u0940"]),
        ("mother-in-law's 2nd!", ["mother-in-law's", "2nd"]),
    ],
)  # fmt: skip
def test_pieces_without_letter_or_digit_are_no_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Tom &amp; Jerry", "Tom & Jerry"), ("&amp;quot;cat&amp;quot;", '"cat"'),
        ("it&#39;s", "it's"), ("caf&eacute;", "caf\u00e9"), ("R&D; a & b", "R&D; a & b"),
        ("plain", "plain"), ("Tom &amp Jerry", "Tom & Jerry"), ("AT&T", "AT&T"),
    ],
)  # fmt: skip
def test_entities(text, expected):
    assert unescaped(text) == expected


def test_tags_against_words():
    text = ["a", "Caf\u00e9", "by", "the", "traffic", "light", "child\u2019s", "light"]
    flags, lost = matched(text, [" cafe\u0301 ", "traffic light", "child's", "bus", "the a", ""])
    assert flags.tolist() == [False, True, False, False, True, True, True, False]
    assert lost == ["bus", "the a", ""]
    assert truth_of(text, []).tolist() == [False] * 8
    assert tag_key("STRASSE") == tag_key("stra\u00dfe")
