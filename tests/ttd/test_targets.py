"""Which words are selected, and what their maps are pulled to."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import MASK, random_embedded

from core.errors import TTDError
from core.ttd.config import DistillConfig
from core.ttd.embedding import Embedded, gather_texts
from core.ttd.loss import ttd_loss
from core.ttd.targets import from_median, make_targets, stretched


def test_targets_are_minmax_maps_zeros_and_their_union():
    texts = gather_texts(["up down flat"])
    pixels = torch.eye(2, dtype=torch.float64)[None, :, None, :]  # two cells, embeddings e1 and e2
    up, down = torch.tensor([0.6, 0.8]), torch.tensor([0.0, 1.0])
    words = torch.stack([up, down, torch.tensor([-0.6, -0.8])]).double()
    teacher = Embedded(pixels, words, words[:1])
    targets = make_targets(teacher, texts, DistillConfig(threshold=0.5), MASK)
    assert targets.selected.tolist() == [[True, True, False]]
    torch.testing.assert_close(
        targets.words[0, :, 0], torch.tensor([[0, 1], [0, 1], [0, 0.0]]).double()
    )
    torch.testing.assert_close(targets.union[0, 0], torch.tensor([0, 1.0]).double())


@pytest.mark.parametrize(
    "scorer, rows", [("image", "pooled"), ("text", "captions"), ("pixel+image", "pooled")]
)
def test_other_scorers_select_by_their_own_scores(scorer, rows):
    texts = gather_texts(["one two three four five"])
    teacher = random_embedded(texts, seed=3)
    scores = (teacher.words @ getattr(teacher, rows)[0]).numpy()
    if scorer == "pixel+image":
        nearest = np.einsum("kd,dhw->khw", teacher.words.numpy(), teacher.pixels[0].numpy()).max(
            (1, 2)
        )
        scores = (scores + nearest) / 2
    norm = (scores - scores.min()) / np.ptp(scores)
    targets = make_targets(teacher, texts, DistillConfig(scorer=scorer, threshold=0.5), MASK)
    assert targets.selected[0].tolist() == (norm >= 0.5).tolist()


def test_stop_words_can_be_kept_from_being_selected_and_a_caption_of_them_counts_nothing():
    texts = gather_texts(["the of and", "a dog"])
    embedded = random_embedded(texts, seed=1)
    config = DistillConfig(stopwords=True, threshold=0.0)
    assert make_targets(embedded, texts, config, MASK).selected.tolist() == [
        [False] * 3,
        [False, True, False],
    ]
    alone = gather_texts(["a dog"])
    rows = [texts.words.index(w) for w in alone.words]
    part = Embedded(embedded.pixels[1:], embedded.words[rows], embedded.captions[1:])
    both, one = (ttd_loss(e, t, config, MASK).total for e, t in ((embedded, texts), (part, alone)))
    torch.testing.assert_close(both, one / 2)


def test_refined_targets_are_pamr_of_each_selected_map_alone():
    from core.refine.pamr import PAMR

    texts = gather_texts(["red dog on a mat", "cat", "one two three"])
    teacher = random_embedded(texts, seed=9, dtype=torch.float32)
    images = torch.rand(3, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    plain = make_targets(teacher, texts, DistillConfig(threshold=0.4), MASK)
    config = DistillConfig(threshold=0.4, refine="pamr")
    targets = make_targets(teacher, texts, config, MASK, images=images)
    assert torch.equal(targets.selected, plain.selected) and plain.selected.sum() > 3
    for b, k in plain.selected.nonzero().tolist():
        up = F.interpolate(
            plain.words[b, k][None, None], (12, 16), mode="bilinear", align_corners=False
        )
        fine = F.avg_pool2d(PAMR()(images[b : b + 1], up), 4)[0, 0]
        torch.testing.assert_close(
            targets.words[b, k], (fine - fine.min()) / (fine.max() - fine.min())
        )
    assert not targets.words[~targets.selected].any()
    torch.testing.assert_close(targets.union, targets.words.amax(1))
    with pytest.raises(TTDError, match="needs the images"):
        make_targets(teacher, texts, DistillConfig(refine="pamr"), MASK)


def test_contrast_stretches_targets_around_one_half():
    texts = gather_texts(["red dog on a mat"])
    teacher = random_embedded(texts, seed=9)
    plain = make_targets(teacher, texts, DistillConfig(threshold=0.4), MASK).words
    sharp = make_targets(teacher, texts, DistillConfig(threshold=0.4, contrast=3.0), MASK).words
    np.testing.assert_allclose(sharp.numpy(), np.clip(3 * plain.numpy() - 1, 0, 1), atol=1e-12)


def test_from_the_median_up():
    """By hand: 101 values have their median at 50 and their 98 % quantile at 98."""
    values = torch.arange(101.0).flip(0).view(1, 1, 101)
    found = from_median(0.01 * values + 0.3)[0, 0]
    assert found[50:].tolist() == [0.0] * 51 and found[:3].tolist() == [1.0] * 3
    assert found[26].item() == pytest.approx((74 - 50) / 48, abs=1e-4)
    assert from_median(torch.full((2, 3, 3), 0.7)).tolist() == torch.zeros(2, 3, 3).tolist()


def test_stretched_masks_are_the_soft_mask_from_its_median_up():
    """Against numpy's median and quantiles, whose values here are cells of the map."""
    maps = torch.linspace(-0.2, 0.6, 101, dtype=torch.float64).view(1, 1, 101)
    soft = 1 / (1 + np.exp(-9.0 * (maps[0, 0].numpy() - 0.25)))
    low, high = np.median(soft), np.quantile(soft, 0.98)
    want = np.clip((soft - low) / (high - low), 0, 1)
    found = stretched(maps, "mask", (9.0, 0.25))[0, 0].numpy()
    np.testing.assert_allclose(found, want, atol=1e-12)


def test_only_the_mask_stretch_knows_the_model_s_mask():
    texts = gather_texts(["red dog on a mat"])
    teacher = random_embedded(texts, seed=9)
    for how, moves in {"range": False, "median": False, "mask": True}.items():
        config = DistillConfig(threshold=0.4, stretch=how)
        one, other = (
            make_targets(teacher, texts, config, mask).words for mask in ((10.0, 0.2), (30.0, 0.0))
        )
        assert torch.equal(one, other) != moves, how


@pytest.mark.parametrize("below", [0.0, 0.3, 0.6])
def test_small_soft_masks_are_stretched_by_their_shape(below):
    """Far below the mask's turn a sigmoid is an exponential: the shape is that of exp(a S)."""
    maps = torch.linspace(-0.05, 0.05, 101).view(1, 1, 101)
    found = stretched(maps - below, "mask", (60.0, 0.3))[0, 0].numpy()
    shape = np.exp(60.0 * maps[0, 0].double().numpy())
    low, high = np.median(shape), np.quantile(shape, 0.98)
    want = np.clip((shape - low) / (high - low), 0, 1)
    np.testing.assert_allclose(found, want, atol=2e-3)


def test_a_flat_soft_mask_is_no_target():
    for level in (-5.0, 0.2, 5.0):  # nowhere, somewhere, everywhere
        flat = stretched(torch.full((1, 3, 3), level), "mask", (60.0, 0.3))
        assert torch.equal(flat, torch.zeros(1, 3, 3))
