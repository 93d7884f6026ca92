"""TTD's loss against values worked out by hand, brute force and finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import CAPTIONS, MASK, random_embedded

from core.errors import TTDError
from core.ttd.calibration import Choice
from core.ttd.config import DistillConfig
from core.ttd.embedding import Embedded, Maps, gather_texts
from core.ttd.loss import distillation, pixel_distance, ranking, ttd_loss
from core.ttd.targets import Targets


def brute_force(embedded, texts, config, mask):
    """The loss of the module's docstring, one caption, one word, one pixel at a time."""

    def distance(s, target):
        if config.distance == "l1":
            return abs(s - target)
        if config.distance == "mse":
            return (s - target) ** 2
        p = 1 / (1 + np.exp(-mask[0] * (s - mask[1])))
        return -(target * np.log(p) + (1 - target) * np.log(1 - p))

    distill, tag = [], []
    for b, caption in enumerate(texts.captions):
        words = [w.strip(".") for w in caption.split()]
        pixels = embedded.pixels[b].flatten(1).T.numpy()  # (P, D)
        own = [pixels @ embedded.words[texts.words.index(w)].numpy() for w in words]
        if not own:
            distill.append(0.0), tag.append(0.0)
            continue
        scores = np.array([s.max() for s in own])
        norm = (
            (scores - scores.min()) / (np.ptp(scores) or 1)
            if np.ptp(scores)
            else np.ones(len(scores))
        )
        keep = norm >= config.threshold if len(own) > 1 else [True]
        targets = [
            (s - s.min()) / np.ptp(s) if k else np.zeros_like(s)
            for s, k in zip(own, keep, strict=True)
        ]
        union = np.max(targets, 0)
        whole = pixels @ embedded.captions[b].numpy()
        distill.append(np.mean(distance(whole, union)))
        tag.append(np.mean([np.mean(distance(s, t)) for s, t in zip(own, targets, strict=True)]))
    return np.mean(distill), np.mean(tag)


@pytest.mark.parametrize("distance", ["l1", "mse", "bce"])
def test_the_loss_is_the_definition(distance):
    texts = gather_texts(CAPTIONS)
    embedded = random_embedded(texts)
    config = DistillConfig(distance=distance, threshold=0.5, tag_weight=0.7)
    losses = ttd_loss(embedded, texts, config, MASK)
    distill, tag = brute_force(embedded, texts, config, MASK)
    np.testing.assert_allclose(float(losses.distill), distill, rtol=1e-10)
    np.testing.assert_allclose(float(losses.tag), tag, rtol=1e-10)
    np.testing.assert_allclose(float(losses.total), distill + 0.7 * tag, rtol=1e-10)


def test_a_case_worked_out_by_hand():
    # One caption of two words on a grid of 1 x 2 cells: cosines (0.1, 0.5) and (0.2, 0.1); the
    # caption's (0.3, 0.3).
    maps = Maps(torch.tensor([[[[0.1, 0.5]], [[0.2, 0.1]]]]), torch.tensor([[[0.3, 0.3]]]))
    # The first word is kept: its map becomes (0, 1), the other's 0, their union (0, 1).
    targets = Targets(
        torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]]),
        torch.tensor([[[0.0, 1.0]]]),
        torch.tensor([[True, False]]),
        torch.tensor([True]),
    )
    distill, tag = distillation(maps, targets, torch.tensor([[True, True]]), "mse", MASK)
    assert float(distill) == pytest.approx((0.3**2 + 0.7**2) / 2)
    assert float(tag) == pytest.approx(((0.1**2 + 0.5**2) / 2 + (0.2**2 + 0.1**2) / 2) / 2)
    distill, tag = distillation(maps, targets, torch.tensor([[True, True]]), "l1", MASK)
    assert (float(distill), float(tag)) == pytest.approx((0.5, (0.3 + 0.15) / 2))


def test_ranks_worked_out_by_hand():
    """Of the first caption one word is shown and one of two other words absent; of the second none.

    Nearest pixels: shown 0.5, absent 0.2, so softplus(4 (0.2 - 0.5)) for one caption of two.
    """
    words = torch.tensor([[[[0.1, 0.5]], [[0.9, 0.1]]], [[[0.3, 0.2]], [[0.0, 0.0]]]])
    others = torch.tensor([[0.2, 0.8], [0.7, 0.7]])
    choice = Choice(
        torch.tensor([[True, False], [False, False]]),
        torch.zeros(2, 2),
        torch.tensor([[True, False], [True, True]]),
    )
    want = math.log(1 + math.exp(4 * (0.2 - 0.5))) / 2
    assert float(ranking(words, others, choice, 4.0)) == pytest.approx(want)
    # Two of each: the mean over the four pairs.
    whole = replace(choice, selected=torch.tensor([[True, True], [False, False]]))
    whole = replace(whole, absent=torch.ones(2, 2, dtype=torch.bool))
    pairs = [(0.2, 0.5), (0.8, 0.5), (0.2, 0.9), (0.8, 0.9)]
    want = sum(math.log(1 + math.exp(4 * (o - s))) for o, s in pairs) / 4 / 2
    assert float(ranking(words, others, whole, 4.0)) == pytest.approx(want)
    # What is added to all cosines of an image changes nothing: maps are not pushed down.
    assert float(ranking(words + 0.1, others + 0.1, whole, 4.0)) == pytest.approx(want)


def test_the_ranks_weigh_in_the_total():
    texts = gather_texts(CAPTIONS, others=["hose", "cat"])
    e = random_embedded(texts)
    rng = torch.Generator().manual_seed(4)
    choice = Choice(
        texts.valid & (torch.rand(texts.valid.shape, generator=rng) < 0.5),
        torch.zeros(texts.valid.shape, dtype=torch.float64),
        texts.foreign & (torch.rand(texts.foreign.shape, generator=rng) < 0.7),
    )
    config = DistillConfig(selection="calibrated", rank_weight=0.3, distance="bce", sharpness=2.0)
    losses = ttd_loss(e, texts, config, MASK, base=e, choice=choice)
    want = []
    for b in range(len(CAPTIONS)):
        pixels = e.pixels[b].flatten(1).T
        excess = [
            math.log(
                1 + math.exp(2 * MASK[0] * float((pixels @ other).max() - (pixels @ own).max()))
            )
            for own in e.words[texts.index[b][choice.selected[b]]]
            for other in e.words[texts.others[choice.absent[b]]]
        ]
        want.append(np.mean(excess) if excess else 0.0)
    assert float(losses.ranking) == pytest.approx(np.mean(want), rel=1e-9) and any(want)
    rest = losses.distill + losses.tag
    assert float(losses.total) == pytest.approx(float(rest + 0.3 * losses.ranking), rel=1e-12)
    plain = replace(config, rank_weight=0.0)
    assert float(ttd_loss(e, texts, plain, MASK, base=e, choice=choice).ranking) == 0
    with pytest.raises(TTDError, match="words of other captions"):
        ttd_loss(e, gather_texts(CAPTIONS), config, MASK, base=e, choice=choice)


def test_the_ranks_lift_words_that_are_shown_and_lower_the_others():
    """Along the student's own nearest pixels, which are not the base's."""
    texts = gather_texts(["red dog"], others=["hose"])
    e = random_embedded(texts)
    base = replace(e, pixels=e.pixels.flip(1), words=e.words.flip(1))
    words = e.words.clone().requires_grad_()
    unsure = torch.zeros(1, 2, dtype=torch.float64)
    choice = Choice(texts.valid, unsure, texts.foreign)
    config = DistillConfig(selection="calibrated", rank_weight=1.0)
    losses = ttd_loss(replace(e, words=words), texts, config, MASK, base=base, choice=choice)
    (slope,) = torch.autograd.grad(losses.ranking, words)
    pixels = e.pixels[0].flatten(1)
    nearest = [pixels[:, (word @ pixels).argmax()] for word in e.words]
    along = [float(s @ n) for s, n in zip(slope, nearest, strict=True)]
    assert along[0] < 0 and along[1] < 0 and along[2] > 0


def test_neighbours_with_more_words_change_nothing():
    """The loss of two captions is the mean of the losses of each alone."""
    captions = ["red dog", "one two three four five six seven"]
    texts = gather_texts(captions)
    whole = random_embedded(texts, seed=2)
    for config in (
        DistillConfig(),
        DistillConfig(distance="bce"),
        DistillConfig(threshold=0.3, tag_weight=3),
    ):
        alone = []
        for b, caption in enumerate(captions):
            own = gather_texts([caption])
            rows = [texts.words.index(word) for word in own.words]
            part = Embedded(whole.pixels[b : b + 1], whole.words[rows], whole.captions[b : b + 1])
            alone.append(ttd_loss(part, own, config, MASK).total)
        torch.testing.assert_close(ttd_loss(whole, texts, config, MASK).total, sum(alone) / 2)


def test_gradients_equal_finite_differences_when_targets_are_held():
    texts = gather_texts(CAPTIONS[:2])
    fixed = random_embedded(texts, seed=5)
    student = random_embedded(texts, seed=6)
    for config in (
        DistillConfig(),
        DistillConfig(distance="bce"),
        DistillConfig(anchor="frozen", anchor_weight=0.5),
        DistillConfig(anchor="contrastive", anchor_weight=0.5),
    ):

        def loss(pixels, words, captions, pooled, config=config):
            moved = Embedded(pixels, words, captions, pooled)
            return ttd_loss(
                moved, texts, config, MASK, teacher=fixed, base=fixed, logit_scale=5.0
            ).total

        inputs = [
            t.clone().requires_grad_()
            for t in (student.pixels, student.words, student.captions, student.pooled)
        ]
        assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6)


def test_targets_of_the_current_model_carry_no_gradient():
    """The gradient with the student as its own teacher is that with a detached copy as teacher."""
    texts = gather_texts(CAPTIONS)
    grads = []
    for own in (True, False):
        e = random_embedded(texts, seed=8)
        leaves = [t.requires_grad_() for t in (e.pixels, e.words, e.captions)]
        teacher = None if own else random_embedded(texts, seed=8)
        ttd_loss(
            Embedded(*leaves), texts, DistillConfig(threshold=0.4), MASK, teacher=teacher
        ).total.backward()
        grads.append([leaf.grad for leaf in leaves])
    for mine, copied in zip(*grads, strict=True):
        torch.testing.assert_close(mine, copied)
        assert mine.abs().sum() > 0


def test_anchors_are_zero_where_nothing_moved_and_the_contrastive_one_is_info_nce():
    texts = gather_texts(["red dog", "blue cat", "a house"])
    e = random_embedded(texts, seed=4)
    still = ttd_loss(e, texts, DistillConfig(anchor="frozen", anchor_weight=1.0), MASK, base=e)
    assert float(still.anchor) == pytest.approx(0, abs=1e-12)
    losses = ttd_loss(
        e, texts, DistillConfig(anchor="contrastive", anchor_weight=1.0), MASK, logit_scale=7.0
    )
    logits = 7.0 * (e.pooled @ e.captions.T).numpy()
    rows = -np.mean([logits[i, i] - np.log(np.exp(logits[i]).sum()) for i in range(3)])
    cols = -np.mean([logits[i, i] - np.log(np.exp(logits[:, i]).sum()) for i in range(3)])
    assert float(losses.anchor) == pytest.approx((rows + cols) / 2)
    with pytest.raises(TTDError, match="frozen base"):
        ttd_loss(e, texts, DistillConfig(anchor="frozen", anchor_weight=1.0), MASK)


def test_pixel_distance_bce_is_torchs():
    maps, targets = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    own = pixel_distance(maps, targets, "bce", MASK)
    expected = F.binary_cross_entropy(
        torch.sigmoid(MASK[0] * (maps - MASK[1])), targets, reduction="none"
    )
    torch.testing.assert_close(own, expected.mean((1, 2)))


def test_captions_without_any_word_cost_nothing_and_break_nothing():
    texts = gather_texts(["...", "!"])
    e = random_embedded(texts, seed=2)
    losses = ttd_loss(e, texts, DistillConfig(anchor="frozen", anchor_weight=1.0), MASK, base=e)
    assert float(losses.total) == pytest.approx(0, abs=1e-12)


def test_the_frozen_anchor_is_a_mean_per_caption():
    texts = gather_texts(["red dog", "red cat on a mat"])
    student, base = random_embedded(texts, seed=4), random_embedded(texts, seed=5)
    config = DistillConfig(anchor="frozen", anchor_weight=1.0)
    whole = ttd_loss(student, texts, config, MASK, base=base).anchor
    parts = []
    for b, caption in enumerate(texts.captions):
        own = gather_texts([caption])
        rows = [texts.words.index(word) for word in own.words]
        cut = [
            Embedded(e.pixels[b : b + 1], e.words[rows], e.captions[b : b + 1])
            for e in (student, base)
        ]
        parts.append(ttd_loss(cut[0], own, config, MASK, base=cut[1]).anchor)
    torch.testing.assert_close(whole, sum(parts) / 2)


def test_sharpness_multiplies_the_slope_of_the_soft_mask():
    texts = gather_texts(["red dog on a mat"])
    e = random_embedded(texts, seed=3)
    sharp = ttd_loss(e, texts, DistillConfig(distance="bce", sharpness=3.0), MASK).total
    torch.testing.assert_close(
        sharp, ttd_loss(e, texts, DistillConfig(distance="bce"), (3 * MASK[0], MASK[1])).total
    )


def test_the_frozen_anchor_by_hand():
    """Pixels turned (cosine 0.8) in one image of two, the word by 90 degrees in one of two."""
    texts = gather_texts(["up", "down"])
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    turned = torch.tensor([0.8, 0.6])
    base = Embedded(
        east.expand(2, 1, 1, 2).permute(0, 3, 1, 2), torch.stack([east, east]), east.expand(2, 2)
    )
    pixels = torch.stack([turned, east])[:, :, None, None]
    student = Embedded(pixels, torch.stack([east, north]), east.expand(2, 2))
    config = DistillConfig(anchor="frozen", anchor_weight=1.0)
    anchor = ttd_loss(student, texts, config, MASK, base=base).anchor
    # mean cosines: pixels (0.8 + 1) / 2, words (1 + 0) / 2, captions 1
    assert float(anchor) == pytest.approx(1 - (0.9 + 0.5 + 1) / 3)


def test_the_contrastive_anchor_is_of_all_processes_where_they_are_given():
    texts = gather_texts(["red dog", "blue cat"])
    e = random_embedded(texts, seed=4)
    config = DistillConfig(anchor="contrastive", anchor_weight=1.0)
    whole = (torch.cat([e.pooled, -e.pooled]), torch.cat([e.captions, -e.captions]))
    own, every = (
        ttd_loss(e, texts, config, MASK, logit_scale=3.0, everyone=given).anchor
        for given in (None, whole)
    )
    logits = 3.0 * (whole[0] @ whole[1].T)
    rows = (logits.logsumexp(1) - logits.diag()).mean()
    columns = (logits.logsumexp(0) - logits.diag()).mean()
    torch.testing.assert_close(every, (rows + columns) / 2)
    assert float(every) > float(own)
