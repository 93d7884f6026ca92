"""Selection without constants of a model: known Gaussians, scales, words that say nothing."""

import math
from collections import Counter
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.backbones import load_backbone
from core.data.pairs import open_pairs
from core.errors import TTDError
from core.ttd.calibration import Calibration, Choice, Cut, belongs, fit, pooled_of, scores
from core.ttd.config import DistillConfig
from core.ttd.embedding import Embedded, Maps, gather_texts, similarity_maps
from core.ttd.loss import as_targets, pixel_distance
from core.ttd.targets import Targets, keep_unsure
from core.ttd.task import TTDTask

WORDS, IMAGES = 60, 400
SHOWN = 4.0  # how far the scores of a shown word lie above those of others


def drawn(shown_share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cosines [U, M, 2] of standard normal scores, captions [U, M], which of those are shown."""
    rng = torch.Generator().manual_seed(seed)
    cosines = torch.randn(WORDS, IMAGES, 2, generator=rng)
    cosines += 3 * torch.randn(WORDS, 1, 1, generator=rng)  # every word has its own level
    own = torch.rand(WORDS, IMAGES, generator=rng) < 0.05
    shown = own & (torch.rand(WORDS, IMAGES, generator=rng) < shown_share)
    return cosines + SHOWN * shown[..., None], own, shown


def test_known_gaussians_give_the_cut_of_the_closed_form():
    """Half shown, half not: Otsu's cut is in the middle; mistakes from the normal tails."""
    cosines, own, shown = drawn(0.5)
    cut = fit(cosines, own)
    # The mean of two independent scores: N(0, 1/2) for words in other images, N(4, 1/2) for shown.
    other = NormalDist(0, math.sqrt(0.5))
    assert cut.threshold == pytest.approx(SHOWN / 2, abs=0.25)
    assert cut.spread.tolist() == pytest.approx([1.0, 1.0], abs=0.05)
    wrong, right = 1 - other.cdf(cut.threshold), other.cdf(SHOWN - cut.threshold)
    assert cut.mistakes == pytest.approx(wrong / (wrong + right), abs=0.01)
    assert cut.selected == pytest.approx((wrong + right) / 2, abs=0.02)
    evidence = (cosines - cosines.mean(1, keepdim=True)).mean(-1)
    selected = own & (evidence > cut.threshold)
    assert (selected & ~shown).sum() / selected.sum() < 0.02


def test_scale_and_level_of_the_cosines_change_nothing():
    cosines, own, _ = drawn(0.4)
    cut, moved = fit(cosines, own), fit(0.013 * cosines + 0.21, own)
    assert moved.threshold == pytest.approx(cut.threshold, rel=1e-3)
    assert moved.selected == pytest.approx(cut.selected, abs=2e-3)
    assert torch.allclose(moved.spread, 0.013 * cut.spread, rtol=1e-3)


def test_a_model_that_knows_nothing_says_so():
    """All words are alike then: of those above the cut, all are mistakes."""
    cosines, own, _ = drawn(0.0)
    assert fit(cosines, own).mistakes > 0.85


@pytest.mark.parametrize("value", [0.25, float("nan")])
def test_scores_that_tell_nothing_apart_are_refused(value):
    own = torch.eye(6, dtype=torch.bool)
    with pytest.raises(TTDError, match="score alike"):
        fit(torch.full((6, 6, 2), value), own)


def test_captions_that_are_all_alike_are_refused():
    with pytest.raises(TTDError, match="all alike"):
        fit(torch.zeros(3, 20, 2), torch.ones(3, 20, dtype=torch.bool))


def test_scores_against_a_loop():
    rng = torch.Generator().manual_seed(1)
    words, pooled = torch.randn(5, 8, generator=rng), torch.randn(20, 8, generator=rng)
    pixels = torch.randn(20, 8, 6, generator=rng)
    found = scores(words, pixels.split(7), pooled)
    for u in range(5):
        for m in range(20):
            nearest = max(float(words[u] @ pixels[m, :, p]) for p in range(6))
            assert found[u, m].tolist() == pytest.approx(
                [nearest, float(words[u] @ pooled[m])], abs=1e-5
            )


def test_words_and_their_captions():
    texts = gather_texts(["a red boat", "the boat"])
    own = belongs(texts, stopwords=True)
    by_word = dict(zip(texts.words, own.tolist(), strict=True))
    assert by_word["boat"] == [True, True] and by_word["red"] == [True, False]
    assert by_word["a"] == by_word["the"] == [False, False]
    assert belongs(texts, stopwords=False)[texts.words.index("the")].tolist() == [False, True]


@pytest.fixture
def three_words():
    """A calibration and one image: "usual" is in every image, "rare" stands out, "flat" is silent.

    Direction 0 is in all images of the sample, 1 in every fourth, 2 in none.
    """
    rng = torch.Generator().manual_seed(2)
    bank = 0.05 * torch.randn(40, 6, 4, generator=rng)
    bank[:, 0] += 1
    bank[::4, 1, 0] += 1
    bank[:, 2] = 0
    pooled = F.normalize(bank.mean(2), dim=1)
    cut = Cut(torch.tensor([0.3, 0.3]), 1.0, 0.1, 0.5)
    calibration = Calibration([F.normalize(bank, dim=1)], pooled, cut, side=8, words=["rare"])
    texts = gather_texts(["usual rare flat the"])
    image = torch.zeros(1, 6, 2, 2)
    image[0, 0], image[0, 1] = 0.2, 1.0
    whole = F.normalize(image.mean((2, 3)), dim=1)
    base = Embedded(F.normalize(image, dim=1), torch.eye(6)[:4], torch.eye(6)[:1], whole)
    return calibration, base, texts


@pytest.mark.parametrize(
    ("known", "content", "function"),
    [(0.1, 1.0, 0.8), (0.225, 1.0, 0.5), (0.3, 1.0, 0.0), (0.375, 0.5, 0.0), (0.6, 0.0, 0.0)],
)
def test_what_says_nothing_is_rejected_by_a_model_that_knows_its_words(
    three_words, known, content, function
):
    """known: share of words selected. "usual" and "flat" hardly vary, "the" is a function word."""
    calibration, base, texts = three_words
    calibration = replace(calibration, cut=replace(calibration.cut, selected=known))
    choice = calibration.choose(base, texts, stopwords=True)
    assert choice.selected.tolist() == [[False, True, False, False]]
    assert choice.unsure[0].tolist() == pytest.approx([content, 0.0, content, function], abs=1e-6)
    # Where what is selected is mostly mistaken, nothing is known, however much it is.
    blind = replace(calibration, cut=replace(calibration.cut, mistakes=1.0))
    unsure = blind.choose(base, texts, stopwords=True).unsure[0].tolist()
    assert unsure == pytest.approx([1.0, 0.0, 1.0, 0.8], abs=1e-6)
    # Without a list of function words all are alike.
    same = calibration.choose(base, texts, stopwords=False).unsure[0]
    assert same.tolist() == pytest.approx([content, 0.0, content, content], abs=1e-6)


def test_padding_is_not_selected_where_its_place_stands_out(three_words):
    """Padding points at the first word of all, "rare", which is in the image."""
    calibration, base, _ = three_words
    texts = gather_texts(["rare usual the", "the"])
    pixels, whole = base.pixels.expand(2, -1, -1, -1), pooled_of(base).expand(2, -1)
    both = Embedded(pixels, torch.eye(6)[[1, 0, 3]], base.captions.expand(2, -1), whole)
    choice = calibration.choose(both, texts, stopwords=True)
    assert choice.selected.tolist() == [[True, False, False], [False, False, False]]


def test_a_function_word_is_rejected_even_where_it_stands_out(three_words):
    """ "near" in the place of "rare": its scores vary, and are high in this image."""
    calibration, base, _ = three_words
    texts = gather_texts(["usual near flat the"])
    choice = calibration.choose(base, texts, stopwords=True)
    assert not choice.selected.any() and choice.unsure[0, 1] == 0
    weak = replace(calibration, cut=replace(calibration.cut, selected=0.1))
    assert weak.choose(base, texts, stopwords=True).unsure[0, 1] == pytest.approx(0.8)
    assert calibration.choose(base, texts, stopwords=False).selected[0, 1]


def test_pooled_embeddings_are_needed(three_words):
    calibration, base, texts = three_words
    with pytest.raises(TTDError, match="pooled"):
        calibration.choose(Embedded(base.pixels, base.words, base.captions), texts, stopwords=True)


def test_words_from_elsewhere_are_absent_where_they_vary_and_are_below_their_mean(three_words):
    """ "rare" is in the image or not; "usual" hardly varies; a caption's own word is not absent."""
    calibration, base, _ = three_words
    texts = gather_texts(["usual flat", "rare"], others=["rare", "usual"])
    assert texts.words == ["usual", "flat", "rare"]
    without = torch.zeros(1, 6, 2, 2)
    without[0, 0] = 1.0
    pixels = torch.cat([without, without])
    words = torch.eye(6)[[0, 2, 1]]
    both = Embedded(pixels, words, words[:2], pixels.mean((2, 3)))
    assert calibration.choose(both, texts, stopwords=True).absent.tolist() == [
        [True, False],
        [False, False],
    ]
    shown = torch.cat([base.pixels, base.pixels])
    both = Embedded(shown, words, words[:2], F.normalize(shown.mean((2, 3)), dim=1))
    assert not calibration.choose(both, texts, stopwords=True).absent.any()


def test_drawn_words_are_those_of_the_captions_as_often_as_they_stand_there(three_words):
    calibration = replace(three_words[0], words=["dog"] * 8 + ["cat", "hose"])
    rng, counts = np.random.default_rng(0), Counter()
    for _ in range(400):
        drawn = calibration.draw(rng, 1)
        assert len(drawn) == 1
        counts.update(drawn)
    assert 280 < counts["dog"] < 360 and counts.keys() == {"dog", "cat", "hose"}
    assert sorted(calibration.draw(rng, 50)) == ["cat", "dog", "hose"]  # each once


def test_a_word_that_varies_and_is_below_its_mean_is_rejected(three_words):
    calibration, base, texts = three_words
    image = torch.zeros(1, 6, 2, 2)
    image[0, 0] = 1.0
    absent = Embedded(image, base.words, base.captions, image.mean((2, 3)))
    weak = replace(calibration, cut=replace(calibration.cut, selected=0.1))
    choice = weak.choose(absent, texts, stopwords=True)
    assert not choice.selected.any() and choice.unsure[0].tolist() == pytest.approx([1, 0, 1, 0.8])


def test_unsure_words_keep_their_maps():
    """One caption of a selected, an unsure and a rejected word, a map of two pixels, by hand."""
    targets = Targets(
        torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]]]),
        torch.tensor([[[1.0, 0.0]]]),
        torch.tensor([[True, False, False]]),
        torch.tensor([True]),
    )
    nothing = torch.zeros(1, 0, dtype=torch.bool)
    choice = Choice(targets.selected, torch.tensor([[0.0, 1.0, 0.0]]), nothing)
    base = Maps(
        torch.tensor([[[[0.9, 0.2]], [[0.3, 0.7]], [[0.6, 0.6]]]]), torch.tensor([[[0.4, 0.8]]])
    )
    kept = keep_unsure(targets, choice, base)
    assert kept.words.tolist()[0][1][0] == pytest.approx([0.3, 0.7])
    assert kept.words.tolist()[0][2][0] == [0.0, 0.0]
    # The unsure word's min-max map is (0, 1): of the second pixel the caption's base is kept.
    assert kept.union[0, 0].tolist() == pytest.approx([1.0, 0.8])
    half = keep_unsure(targets, replace(choice, unsure=choice.unsure / 2), base)
    assert half.words.tolist()[0][1][0] == pytest.approx([0.15, 0.35])
    assert half.union[0, 0].tolist() == pytest.approx([1.0, 0.4])  # half of 0, half of 0.8
    none = replace(choice, selected=torch.zeros(1, 3, dtype=torch.bool))
    silent = replace(targets, teaches=torch.tensor([False]))
    kept = keep_unsure(silent, none, base)
    assert kept.union[0, 0].tolist() == pytest.approx([0.4, 0.8])
    assert kept.teaches.tolist() == [True]  # that its words stay as they are, or are not shown


def test_base_maps_as_targets_have_no_gradient_at_the_base():
    """The soft mask of the base's own maps is where the distance is least."""
    texts = gather_texts(["red boat"])
    rng = torch.Generator().manual_seed(3)
    base = Embedded(
        F.normalize(torch.randn(1, 5, 2, 2, generator=rng), dim=1),
        F.normalize(torch.randn(2, 5, generator=rng), dim=1),
        F.normalize(torch.randn(1, 5, generator=rng), dim=1),
    )
    maps = similarity_maps(base, texts).words.requires_grad_(True)
    pixel_distance(
        maps, as_targets(base, texts, "bce", (7.0, 0.1)).words, "bce", (7.0, 0.1)
    ).sum().backward()
    assert maps.grad.abs().max() < 1e-6


def test_a_run_says_what_it_found(config):
    """The line that a dry run prints; too few pairs are refused with what to do."""
    settings = replace(config, distill=DistillConfig(selection="calibrated"))
    backbone = load_backbone(config.arch, device="cpu")
    pairs = open_pairs(config.data, config.root, (), None)
    found = [
        line for line in TTDTask(settings, backbone, pairs).describe() if "calibration" in line
    ]
    assert len(found) == 1 and found[0].startswith("calibration: 12 pairs without labels")
    few = open_pairs(config.data, config.root, (), 3)
    with pytest.raises(TTDError, match="needs 4 pairs .* distill.selection=caption"):
        TTDTask(settings, load_backbone(config.arch, device="cpu"), few)
