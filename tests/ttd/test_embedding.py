"""Texts split into distinct words, and cosine maps of a batch."""

import pytest
import torch
from embedded import CAPTIONS

from core.errors import TTDError
from core.ttd.embedding import MAX_WORDS, embed, gather_texts, similarity_maps


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
