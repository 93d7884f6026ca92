"""Words and selection against hand-made cases and brute force."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_float32_device import NAME, There, without_float64

from core.data.words import is_stopword, split_words, stopwords
from core.errors import TTDError
from core.tags import selection
from core.tags.selection import minmax, normalize, otsu_threshold, otsu_thresholds, select

CASES = {
    "A red boat.": ["A", "red", "boat"],
    "  spaces\tand\nlines ": ["spaces", "and", "lines"],
    "“quoted” (words), end…": ["quoted", "words", "end"],
    "mother-in-law's T-shirt": ["mother-in-law's", "T-shirt"],
    "¿Dónde está? Ångström, 東京。": ["Dónde", "está", "Ångström", "東京"],
    "it’s 3.5 $5 – ok": ["it’s", "3.5", "5", "ok"],
    "-- !!! ...": [],
    "": [],
    "the cat the cat": ["the", "cat", "the", "cat"],
    "ends with 🙂 emoji🙂": ["ends", "with", "emoji"],
}


@pytest.mark.parametrize("text", CASES)
def test_words_and_their_spans(text):
    words = split_words(text)
    assert [w.text for w in words] == CASES[text]
    assert all(text[w.start : w.end] == w.text for w in words)
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))


def test_stop_words_are_function_words_only():
    assert all(is_stopword(w) for w in ("The", "a", "IN", "don’t", "with"))
    assert not any(is_stopword(w) for w in ("jacuzzi", "red", "Night", "time"))
    assert all(w == w.casefold() and w.strip() for w in stopwords())


def test_minmax_over_the_words_of_each_caption_only():
    scores = torch.tensor([[0.3, 0.1, 0.2, 9.0], [5.0, 5.0, -9.0, 7.0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    expected = torch.tensor([[1.0, 0.0, 0.5, 0.0], [1.0, 1.0, 0.0, 0.0]])  # equal scores: all 1
    torch.testing.assert_close(minmax(scores, mask), expected)
    assert minmax(torch.tensor([0.2])).tolist() == [1.0]
    with pytest.raises(TTDError, match="one flag per word"):
        minmax(scores, mask[0])


def _between(values, kept):
    """Between-class variance of a labelling, straight from its definition."""
    high, low = values[kept], values[~kept]
    mean, n = values.mean(), len(values)
    return len(high) / n * (high.mean() - mean) ** 2 + len(low) / n * (low.mean() - mean) ** 2


def test_otsu_maximises_the_variance_between_classes():
    random = np.random.default_rng(0)
    for _ in range(200):
        values = random.choice([random.random(7), random.integers(0, 4, 7) / 4])[
            : random.integers(2, 8)
        ]
        if len(set(values)) < 2:
            continue
        best = max(_between(values, values > cut) for cut in set(values) - {values.max()})
        kept = values > otsu_threshold(torch.tensor(values))
        assert kept.any() and not kept.all()
        assert _between(values, kept) == pytest.approx(best)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm", ["minmax", "none"])
def test_a_device_without_float64_selects_the_same_words(monkeypatch, norm, padded):
    """Neighbours in float32 on either side of the cut, too; all comes back on the device."""
    monkeypatch.setattr(selection, "WITHOUT_FLOAT64", (NAME,))
    step = float(np.spacing(np.float32(0.5)))
    near = torch.tensor(
        [[0.5, 0.5 + step, 0.5 + 2 * step, 0.0], [0.5 + 2 * step, 0.5 + step, 9, 9]]
    )
    scores = torch.cat([near, torch.rand(60, 4, generator=torch.Generator().manual_seed(0))])
    mask = torch.ones(62, 4, dtype=torch.bool)
    mask[1, 2:] = not padded
    with without_float64():
        kept, norms = select(There(scores), norm=norm, mask=There(mask))
        cuts = otsu_thresholds(There(scores), There(mask))
    assert {kept.device.type, norms.device.type, cuts.device.type} == {NAME}
    assert cuts.dtype == torch.float32
    for row, values, keep in zip(kept.inner, norms.inner, mask, strict=True):
        assert row[keep].tolist() == _best_labels(values[keep].tolist())
        assert not row[~keep].any()


def _best_labels(numbers):
    """The words above the best cut, in exact arithmetic; above the highest of equally good ones."""
    values = [Fraction(number) for number in numbers]
    best, labels = Fraction(-1), [True] * len(values)
    for cut in sorted(set(values))[:-1]:
        above = [value > cut for value in values]
        high = [value for value in values if value > cut]
        low = [value for value in values if value <= cut]
        gap = sum(high) / len(high) - sum(low) / len(low)
        if len(high) * len(low) * gap**2 >= best:
            best, labels = len(high) * len(low) * gap**2, above
    return labels


def test_otsu_keeps_all_that_cannot_be_told_apart_and_refuses_nothing():
    assert otsu_threshold(torch.tensor([0.4, 0.4])) == float("-inf")
    assert otsu_threshold(torch.tensor([0.4])) == float("-inf")
    assert otsu_threshold(torch.tensor([0.0, 0.5, 1.0])) == pytest.approx(
        0.75
    )  # a tie: the higher cut
    with pytest.raises(TTDError, match="no words"):
        otsu_threshold(torch.tensor([]))


def test_selection_of_the_published_caption():
    # "a woman spends time in jacuzzi"; scores of the figure in the paper
    scores = torch.tensor([0.18, 0.82, 0.03, 0.00, 0.22, 1.00])
    for threshold in (None, 0.5):
        assert select(scores, threshold=threshold)[0].tolist() == [
            False,
            True,
            False,
            False,
            False,
            True,
        ]


def test_rejected_words_keep_their_place_in_scale_and_cut():
    scores = torch.tensor([0.1, 0.9, 0.25, 0.2])
    free, norms = select(scores)
    held, same = select(scores, torch.tensor([False, True, False, False]))
    assert torch.equal(norms, same)
    assert free.tolist() == [False, True, False, False]
    assert held.tolist() == [False, False, False, False]


@pytest.mark.parametrize("norm", ["minmax", "softmax", "none"])
def test_one_word_is_kept_unless_rejected(norm):
    one = torch.tensor([0.01])
    assert select(one, norm=norm, threshold=0.5)[0].tolist() == [True]
    assert select(one, torch.tensor([True]), norm=norm)[0].tolist() == [False]


def test_softmax_and_none():
    scores = torch.tensor([0.30, 0.29])
    expected = torch.tensor([np.e / (1 + np.e), 1 / (1 + np.e)], dtype=torch.float32)
    torch.testing.assert_close(normalize(scores, "softmax", 100.0), expected)
    assert torch.equal(normalize(scores, "none"), scores)
    with pytest.raises(TTDError, match="minmax, softmax, none"):
        normalize(scores, "rank")


def test_selection_ignores_positive_affine_changes():
    scores = torch.rand(9, generator=torch.Generator().manual_seed(1))
    for threshold in (None, 0.5):
        assert torch.equal(
            select(scores, threshold=threshold)[0], select(3 * scores - 1, threshold=threshold)[0]
        )
