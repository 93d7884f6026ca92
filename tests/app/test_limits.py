"""What a visitor's texts become, and what is too much."""

import pytest

from core.app.limits import caption_of, phrases_of, tags_of
from core.errors import TTDError


def test_a_caption_becomes_its_words_with_entities_read():
    assert caption_of(" A cat &amp; a dog, ") == ("A cat & a dog,", ["A", "cat", "a", "dog"])


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("house, tree;bird", ["house", "tree", "bird"]),
        ("red  house\n\ntree,,\n", ["red house", "tree"]),
        ("Cat, cat, CAT, dog", ["Cat", "dog"]),
        ("person|human", ["person|human"]),
        ("猫, 犬", ["猫", "犬"]),
    ],
)
def test_tags_stand_between_commas_or_on_lines_each_once(text, tags):
    assert tags_of(text) == tags


def test_phrases_keep_their_commas():
    assert phrases_of("the star, on the left\nthe fish") == ["the star, on the left", "the fish"]


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (caption_of, None, "no caption yet"),
        (caption_of, "  ", "no caption yet"),
        (caption_of, "... !!!", "no words"),
        (caption_of, "a " * 49, "49 words; 48"),
        (caption_of, "a" * 1001, "1001 letters"),
        (tags_of, "", "no list of tags yet"),
        (tags_of, ", ;\n,", "no tags"),
        (tags_of, ",".join(map(str, range(33))), "33 tags; at most 32"),
        (tags_of, "x" * 101, "101 letters; at most 100"),
        (phrases_of, "\n".join("abcdefghi"), "9 phrases; at most 8"),
    ],
)
def test_too_little_and_too_much_is_one_line(read, text, words):
    with pytest.raises(TTDError, match=words) as caught:
        read(text)
    assert "\n" not in str(caught.value)
