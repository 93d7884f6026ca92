"""Segmentation scores against pixel loops, scikit-learn and closed forms."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion

from core.data.labels.dataset_yaml import NAMES, load_shipped, parse_labels
from core.errors import TTDError
from core.metrics.segmentation import (
    best_threshold,
    caption_baselines,
    confusion_matrix,
    foreground_counts,
    joint_histogram,
    label_baselines,
    scores_from_counts,
    scores_of,
    threshold_counts,
)

IGNORED = 255


def labels_of(name: str) -> tuple[int, ...]:
    found = parse_labels(load_shipped(name), name)
    first = found["first_label"]
    return (0,) * found["background"] + tuple(range(first, first + len(found["classes"])))


def by_loops(pairs, labels):
    """TP, FP, FN per label, pixel by pixel, in Python integers."""
    counts = {label: [0, 0, 0] for label in labels}
    for truth, prediction in pairs:
        for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            if t == IGNORED:
                continue
            if t == p:
                counts[t][0] += 1
            else:
                counts[t][2] += 1
                if p in counts:
                    counts[p][1] += 1
    return counts


def random_pairs(seed, labels, pictures=4, absent=()):
    """Truth with ignored pixels and without the `absent` labels; predictions with 255.

    With an odd seed the first prediction is empty.
    """
    rng = np.random.default_rng(seed)
    present = [label for label in labels if label not in absent]
    pairs = []
    for index in range(pictures):
        size = tuple(rng.integers(1, 12, 2))
        truth = rng.choice([*present, IGNORED], size).astype(np.uint8)
        prediction = np.where(
            rng.random(size) < 0.5, truth, rng.choice([*labels[:-1], IGNORED], size)
        )
        pairs.append((truth, np.full(size, IGNORED) if index == 0 and seed % 2 else prediction))
    return [(truth, prediction.astype(np.uint8)) for truth, prediction in pairs]


def score(pairs, labels):
    total = sum(joint_histogram(truth, prediction) for truth, prediction in pairs)
    return scores_of(confusion_matrix(total, labels))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("labels", [(0, 1), (0, 1, 2, 5, 9), (1, 2, 3), (0, 7, 254)])
def test_scores_equal_pixel_loops(seed, labels):
    absent = labels[-1:] if seed % 3 else ()  # the last label is in neither: it must be left out
    pairs = random_pairs(seed, labels, absent=absent)
    got, want = score(pairs, labels), by_loops(pairs, labels)
    for index, label in enumerate(labels):
        tp, fp, fn = want[label]
        if tp + fp + fn == 0:
            assert np.isnan([got.iou[index], got.fpr[index], got.fnr[index]]).all()
            continue
        assert got.iou[index] == tp / (tp + fp + fn)
        assert got.fpr[index] == fp / (tp + fp + fn)
        assert got.fnr[index] == fn / (tp + fp + fn)
    counted = np.array([w for w in want.values() if sum(w)])
    means = np.mean(counted / counted.sum(1, keepdims=True), axis=0)
    np.testing.assert_allclose(got.means, means, rtol=0, atol=1e-15)
    assert sum(got.means) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_confusion_equals_scikit_learn(name):
    labels = labels_of(name)
    rng = np.random.default_rng(len(labels))
    truth = rng.choice([*labels, IGNORED], (60, 70)).astype(np.uint8)
    prediction = np.where(
        rng.random((60, 70)) < 0.6, truth, rng.choice([*labels, IGNORED], (60, 70))
    ).astype(np.uint8)
    ours = confusion_matrix(joint_histogram(truth, prediction), labels)
    kept = truth != IGNORED
    other = max(labels) + 1 if max(labels) < 254 else 253
    columns = np.where(np.isin(prediction, labels), prediction, other)
    theirs = sklearn_confusion(truth[kept], columns[kept], labels=[*labels, other])
    assert ours.dtype == np.int64 and ours.shape == (len(labels), len(labels) + 1)
    assert np.array_equal(ours, theirs[:-1])


@pytest.mark.parametrize("name", NAMES)
def test_perfect_is_100_and_shifted_by_one_class_is_0(name):
    labels = np.array(labels_of(name), np.uint8)
    truth = np.repeat(labels[None], 3, axis=0)
    ignored = np.full((3, 2), IGNORED, np.uint8)
    truth = np.concatenate([truth, ignored], axis=1)
    assert score([(truth, truth)], labels.tolist()).means == (1, 0, 0)
    shifted = np.concatenate([np.roll(truth[:, :-2], 1, axis=1), ignored], axis=1)
    iou, fpr, fnr = score([(truth, shifted)], labels.tolist()).means
    assert iou == 0 and fpr == fnr == 0.5
    nothing = score([(truth, np.full_like(truth, IGNORED))], labels.tolist()).means
    assert nothing == (0, 0, 1)


def test_ignored_pixels_never_count():
    truth = np.array([[255, 255, 1]], np.uint8)
    for prediction in ([[1, 0, 1]], [[0, 0, 1]], [[255, 1, 1]]):
        assert score([(truth, np.array(prediction, np.uint8))], (0, 1)).means == (1, 0, 0)
    empty = score([(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))], (0, 1))
    assert np.isnan(empty.means).all()


def test_predicting_no_label_is_a_false_negative_and_no_false_positive():
    truth = np.array([[1, 1, 2, 2]], np.uint8)
    got = score([(truth, np.array([[1, 255, 2, 200]], np.uint8))], (1, 2))
    assert got.fpr.tolist() == [0, 0] and got.fnr.tolist() == [0.5, 0.5]


def test_counts_are_exact_beyond_float32():
    """2^24 + 1 pixels in one cell: float32 sums stop there."""
    joint = np.zeros((256, 256), np.int64)
    one = joint_histogram(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    joint += 2**40 * one
    joint += one
    assert confusion_matrix(joint, (0, 1))[0, 0] == 2**40 + 1


def test_the_set_is_scored_not_the_mean_of_its_pictures():
    big = (np.ones((1, 90), np.uint8), np.ones((1, 90), np.uint8))
    small = (np.ones((1, 10), np.uint8), np.zeros((1, 10), np.uint8))
    assert score([big, small], (1,)).iou[0] == 0.9


def test_sizes_must_agree():
    with pytest.raises(TTDError, match="differ in size"):
        joint_histogram(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))
    with pytest.raises(TTDError, match="differ in size"):
        foreground_counts(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


@pytest.mark.parametrize("seed", range(6))
def test_foreground_counts_equal_loops(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.random((2, 9, 7)) < [[[0.4]], [[0.6]]]
    if seed == 0:
        prediction[:] = False
    cells = list(zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True))
    want = [
        cells.count(cell) for cell in ((True, True), (False, True), (True, False), (False, False))
    ]
    assert foreground_counts(truth, prediction).tolist() == want
    shares = scores_from_counts(np.array(want[:3]))
    assert float(shares.iou + shares.fpr + shares.fnr) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["random", "on the thresholds", "float16"])
def test_threshold_counts_equal_cutting_one_by_one(kind):
    rng = np.random.default_rng(5)
    thresholds = [0.1, 0.25, 0.4, 0.5, 0.9]
    scores = rng.random((11, 13)).astype(np.float32)
    if kind == "on the thresholds":
        scores = rng.choice(np.array([0, *thresholds, 1], np.float32), (11, 13))
    if kind == "float16":
        scores = scores.astype(np.float16)
    truth = rng.random((11, 13)) < 0.3
    got = threshold_counts(scores, truth, thresholds)
    for row, threshold in zip(got, thresholds, strict=True):
        prediction = scores.astype(np.float32) > np.float32(threshold)
        assert row.tolist() == foreground_counts(truth, prediction)[:3].tolist()
    with pytest.raises(TTDError, match="ascend"):
        threshold_counts(scores, truth, [0.5, 0.4])


def test_best_threshold_is_the_one_a_search_finds():
    rng = np.random.default_rng(1)
    thresholds = [round(0.05 * k, 2) for k in range(1, 20)]
    truths = rng.random((6, 20, 20)) < 0.4
    maps = np.clip(0.3 * truths + 0.35 + 0.1 * rng.standard_normal(truths.shape), 0, 1)
    counts = np.stack(
        [threshold_counts(m, t, thresholds) for m, t in zip(maps, truths, strict=True)]
    )
    means = []
    for threshold in thresholds:
        cut = maps.astype(np.float32) > np.float32(threshold)
        common, either = (truths & cut).sum((1, 2)), (truths | cut).sum((1, 2))
        means.append(np.mean(common / either))
    assert best_threshold(counts, thresholds) == thresholds[int(np.argmax(means))]
    with pytest.raises(TTDError, match="no map"):
        best_threshold(np.zeros((2, 3, 3), np.int64), thresholds[:3])


def test_a_map_counts_at_the_thresholds_where_it_can_be_scored():
    """The second map has no true pixel: false positives at the lowest cut, nothing above."""
    counts = np.array([[[9, 1, 0], [6, 2, 2], [1, 0, 5]], [[0, 3, 0], [0, 0, 0], [0, 0, 0]]])
    # 0.9 of the first map alone would win, but (0.9 + 0) / 2 is less than 0.6
    assert best_threshold(counts, [0.2, 0.5, 0.8]) == 0.5


@pytest.mark.parametrize("background", [True, False])
def test_label_baselines_equal_painting_them(background):
    rng = np.random.default_rng(4)
    labels = (0, 1, 2, 3) if background else (1, 2, 3)
    truth = rng.choice([*labels, IGNORED], (50, 40), p=None).astype(np.uint8)
    truth[:5] = 2  # the commonest class
    pixels = np.array([(truth == label).sum() for label in labels])
    names = ["background"] * background + ["a", "b", "c"]
    got = label_baselines(pixels, names, background)
    assert list(got) == ["all foreground (b)", "all background", "random map"]
    painted = {
        "all foreground (b)": np.full_like(truth, 2),
        "all background": np.full_like(truth, 0 if background else IGNORED),
    }
    for name, prediction in painted.items():
        assert got[name].means == pytest.approx(score([(truth, prediction)], labels).means)
    many = [(truth, rng.choice(labels, truth.shape).astype(np.uint8)) for _ in range(200)]
    expected = score(many, labels).means  # a drawn map has about these
    assert got["random map"].means == pytest.approx(expected, abs=0.02)
    again = label_baselines(pixels, names, background)["random map"]
    assert again.means == got["random map"].means


def test_the_commonest_class_is_never_the_background():
    """The background has most pixels, the last class most of the others."""
    got = label_baselines(np.array([1000, 20, 5, 30]), ["background", "a", "b", "c"], True)
    foreground = got["all foreground (c)"]
    assert list(got) == ["all foreground (c)", "all background", "random map"]
    assert foreground.iou.tolist() == [0, 0, 0, 30 / 1055]
    assert foreground.fpr.tolist() == [0, 0, 0, 1025 / 1055]
    assert foreground.fnr.tolist() == [1, 1, 1, 0]
    assert got["all background"].iou.tolist() == [1000 / 1055, 0, 0, 0]
    without = label_baselines(np.array([1000, 20]), ["a", "b"], False)
    assert without["all foreground (a)"].iou.tolist() == [1000 / 1020, 0]
    assert without["all background"].fnr.tolist() == [1, 1]


@pytest.mark.parametrize("background", [True, False])
def test_a_random_map_draws_every_label_evenly(background):
    """TP is a share 1 / L of a label's own pixels, FP the same share of all others."""
    pixels = np.array([4_000_000, 1_000_000, 2_000_000, 500_000])
    got = label_baselines(pixels, list("abcd"), background)["random map"]
    for label, own in enumerate(pixels):
        hits, false = own / 4, (pixels.sum() - own) / 4
        total = own + false
        assert got.iou[label] == pytest.approx(hits / total, abs=1e-3)
        assert got.fpr[label] == pytest.approx(false / total, abs=1e-3)
        assert got.fnr[label] == pytest.approx((own - hits) / total, abs=1e-3)


def test_a_random_caption_mask_tosses_a_coin_for_every_pixel():
    """Mean and variance of 4000 binomial draws; pixels of the truth are never lost."""
    truth = np.tile([[90, 810]], (4000, 1))
    hits, false, missed = caption_baselines(truth)["random map"].T
    assert (hits + missed == 90).all() and (false <= 810).all()
    assert hits.mean() == pytest.approx(45, abs=4 * np.sqrt(90 / 4 / 4000))
    assert false.mean() == pytest.approx(405, abs=4 * np.sqrt(810 / 4 / 4000))
    assert hits.var() == pytest.approx(90 / 4, rel=0.1)
    assert false.var() == pytest.approx(810 / 4, rel=0.1)
    assert abs(np.corrcoef(hits, false)[0, 1]) < 0.06
    other = caption_baselines(truth, seed=1)["random map"]
    assert (other != caption_baselines(truth)["random map"]).any()


def test_caption_baselines_equal_painting_them():
    rng = np.random.default_rng(4)
    truths = [rng.random((30, 30)) < share for share in (0.1, 0.5, 1.0)]
    sizes = np.array([[t.sum(), (~t).sum()] for t in truths])
    got = caption_baselines(sizes)
    for name, fill in (("all foreground", True), ("all background", False)):
        want = [foreground_counts(t, np.full_like(t, fill))[:3].tolist() for t in truths]
        assert got[name].tolist() == want
    noise = []
    for truth in truths:
        maps = rng.random((100, *truth.shape)) < 0.5
        noise.append(np.mean([foreground_counts(truth, one)[:3] for one in maps], axis=0))
    np.testing.assert_allclose(got["random map"], noise, atol=45)  # 3 standard deviations
    assert got["random map"].tolist() == caption_baselines(sizes)["random map"].tolist()
