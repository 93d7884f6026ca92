"""The absolute cut: where it lies, that it needs no labels, and what it rejects."""

import numpy as np
import pytest
import torch

from core.errors import TTDError
from core.evaluation.min_score import best_cut
from core.tags.protocol import TagProtocol
from core.tags.selection import select


def test_the_cut_by_hand():
    """At 9 the shares are 1/4 and 0, at 8 they are 2/4 and 1/4: equal, so the lower one."""
    found = best_cut(np.array([1.0, 2, 8, 9]), np.array([1.0, 2, 3, 8]))
    assert (found.cut, found.own, found.other, found.words) == (8.0, 0.5, 0.25, 4)


def test_mixtures_have_the_cut_of_their_parts():
    """Two normals at 0 and 2 are best told apart at 1, whatever their shares in the two sets."""
    draw = np.random.default_rng(0)
    for there, by_chance in ((0.9, 0.0), (0.6, 0.1), (0.5, 0.2)):
        own = draw.normal(2.0 * (draw.random(200_000) < there), 1)
        other = draw.normal(2.0 * (draw.random(200_000) < by_chance), 1)
        found = best_cut(own, other)
        assert found.cut == pytest.approx(1, abs=0.15)
        inside = 2 * 0.8413447 - 1  # Phi(1) - Phi(-1): the largest difference of the two normals
        assert found.own - found.other == pytest.approx((there - by_chance) * inside, abs=0.01)


def test_the_cut_can_reject_all_and_changes_nothing_else():
    lone = torch.tensor([0.1])
    assert select(lone)[0].tolist() == [True]
    assert select(lone, min_score=0.2)[0].tolist() == [False]
    assert select(lone, min_score=0.1)[0].tolist() == [True]  # at the cut is above it
    scores = torch.tensor([0.0, 0.3, 0.5, 0.02])
    kept, norms = select(scores)
    assert kept.tolist() == [False, True, True, False]
    cut, same = select(scores, min_score=0.4)
    assert cut.tolist() == [False, False, True, False] and torch.equal(norms, same)
    assert not select(scores, min_score=0.6)[0].any()


def test_it_is_a_cosine_of_the_nearest_pixel_alone():
    with pytest.raises(TTDError, match="--scorer pixel"):
        TagProtocol(96, min_score=0.2)
    assert TagProtocol(96, scorers=("pixel",), min_score=0.2).min_score == 0.2
