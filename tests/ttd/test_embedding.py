"""Texts split into distinct words, and cosine maps of a batch."""

import pytest
import torch
from embedded import CAPTIONS, random_embedded

from core.errors import TTDError
from core.ttd.embedding import MAX_WORDS, embed, gather_texts, nearest_to_others, similarity_maps


def test_words_of_a_batch_are_distinct_and_in_their_places():
    texts = gather_texts(CAPTIONS)
    assert texts.words == [
        "A",
        "dog",
        "and",
        "the",
        "red",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
    ]
    assert texts.index.shape == (4, 6) and texts.valid.sum(1).tolist() == [5, 1, 0, 6]
    assert [texts.words[i] for i in texts.index[0, :5]] == ["A", "dog", "and", "the", "dog"]
    assert texts.stop[0].tolist() == [True, False, True, True, False, False]
    assert (
        gather_texts(["", " ... "]).index.shape == (2, 1)
        and not gather_texts(["", " ... "]).valid.any()
    )
    assert gather_texts(["w " * 500]).index.shape == (1, MAX_WORDS)


def test_words_from_elsewhere_are_known_apart_from_a_captions_own():
    """Compared as tags are, also with words beyond those that count."""
    texts = gather_texts(["A Dog", "", "red"], others=["dog", "hose", "red"])
    assert texts.words == ["A", "Dog", "red", "dog", "hose"]
    assert [texts.words[i] for i in texts.others] == ["dog", "hose", "red"]
    assert texts.foreign.tolist() == [[False, True, True], [True] * 3, [True, True, False]]
    assert gather_texts(["A Dog"]).foreign.shape == (1, 0)
    long = "w " * MAX_WORDS + "cafe\u0301 child\u2019s"
    assert gather_texts([long], others=["caf\u00e9", "child's", "x"]).foreign.tolist() == [
        [False, False, True]
    ]


def test_nearest_pixels_of_words_from_elsewhere_against_a_loop():
    texts = gather_texts(CAPTIONS, others=["hose", "dog"])
    embedded = random_embedded(texts)
    found = nearest_to_others(embedded, texts)
    for b in range(len(CAPTIONS)):
        for r, word in enumerate(["hose", "dog"]):
            vector = embedded.words[texts.words.index(word)]
            cosines = [
                float(vector @ embedded.pixels[b, :, y, x]) for y in range(3) for x in range(4)
            ]
            assert float(found[b, r]) == pytest.approx(max(cosines), abs=1e-12)


def test_embed_is_the_backbones_own_cosine():
    from core.backbones import load_backbone

    backbone = load_backbone("tiny")
    images = backbone.normalize(torch.rand(2, 3, 48, 48))
    texts = gather_texts(["red dog", "a blue cat on a car"])
    with torch.no_grad():
        maps = similarity_maps(embed(backbone, images, texts), texts)
        pixels = backbone.encode_pixels(images)
        for b, caption in enumerate(texts.captions):
            own = backbone.similarity(
                pixels[b : b + 1], backbone.encode_text([*caption.split(), caption])
            )[0]
            torch.testing.assert_close(
                maps.words[b, : len(own) - 1], own[:-1], atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(maps.captions[b], own[-1], atol=1e-5, rtol=1e-5)
    with pytest.raises(TTDError, match="multiple of the patch"):
        embed(backbone, images[..., :-1], texts)
