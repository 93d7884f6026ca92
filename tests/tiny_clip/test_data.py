"""How the world's pairs are seen, and the vocabulary cut down to them."""

import numpy as np
import pytest
import torch

from core.tiny_clip.data import random_crops, random_span, shrink
from core.tiny_clip.model import KeepTokens, write_vocabulary


def test_crops_of_the_whole_picture_are_the_picture_or_its_mirror():
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    draws = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    crops = random_crops(images, 1.0, draws)
    for crop, image in zip(crops, images, strict=True):
        assert torch.allclose(crop, image, atol=1e-5) or torch.allclose(
            crop, image.flip(-1), atol=1e-5
        )


def test_shrunken_pictures_keep_their_tokens_and_nothing_else():
    """Patch by patch, what is kept of the canvas is the resized image."""
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    little = torch.nn.functional.interpolate(
        images, (64, 64), mode="bilinear", antialias=True, align_corners=False
    )
    canvas, keep = shrink(images, 64, 8, np.random.default_rng(5))
    patches = (
        canvas.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    )  # (B, 144, 3, 8, 8)
    wanted = (
        little.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    )  # (B, 64, 3, 8, 8)
    assert keep[0] == 0 and len(keep) == 65
    torch.testing.assert_close(patches[:, keep[1:] - 1], wanted)
    assert canvas.sum().item() == pytest.approx(little.sum().item(), rel=1e-4)


def test_kept_tokens_of_the_image_tower():
    kept = KeepTokens()
    tokens = torch.rand(2, 5, 3)
    assert torch.equal(kept(tokens), tokens)
    kept.index = torch.tensor([0, 3])
    assert torch.equal(kept(tokens), tokens[:, [0, 3]])


def test_spans_are_words_in_a_row():
    text = "A red boat, near the shore."
    draws = np.random.default_rng(0).random((50, 3))
    assert {random_span(text, 0.0, draw) for draw in draws} == {text}
    cut = [random_span(text, 1.0, draw) for draw in draws]
    assert {len(t.split()) for t in cut} == {1, 2, 3}
    assert all(t in "A red boat near the shore" for t in cut)
    assert random_span(text, 0.3, (0.29, 0.99, 0.0)) == "shore"  # the last word, alone
    assert random_span(text, 0.3, (0.3, 0.0, 0.0)) == text


def test_crops_by_hand():
    """Brightness is the column: a mirrored half at the left edge, a plain half at the right."""
    ramp = torch.arange(16.0).expand(1, 3, 16, 16)
    mirrored = random_crops(ramp, 0.5, torch.tensor([[0.0], [0.1], [0.0], [0.0]]))
    assert torch.allclose(mirrored[0, 0, 0, [0, -1]], torch.tensor([7.25, 0.0]), atol=0.26)
    plain = random_crops(ramp, 0.5, torch.tensor([[0.0], [0.9], [1.0], [0.0]]))
    assert torch.allclose(plain[0, 0, 0, [0, -1]], torch.tensor([7.75, 15.0]), atol=0.26)


def test_the_cut_down_vocabulary_splits_known_words_as_clip_does(tmp_path):
    import open_clip

    words = {"umbrella", "butterfly", "jacuzzi"}
    size = write_vocabulary(tmp_path / "bpe.txt.gz", words, 300)
    small, full = (
        open_clip.SimpleTokenizer(bpe_path=str(tmp_path / "bpe.txt.gz")),
        open_clip.SimpleTokenizer(),
    )
    assert small.vocab_size == size < 900
    for word in words:
        assert [small.decoder[t] for t in small.encode(word)] == [
            full.decoder[t] for t in full.encode(word)
        ]
    assert small.decode(small.encode("any wörd at all")) == "any wörd at all "
