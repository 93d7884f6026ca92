"""SA-Co on random releases against its evaluator written down with plain masks and SciPy."""

import json

import numpy as np
import pytest
from small_phrases import SIZE, results, write_saco

from core.data.phrases.saco import find_subsets, read_predictions, read_subset
from core.evaluation.phrases.saco import average, score_subset

THRESHOLDS = [0.5 + 0.05 * k for k in range(10)]


def random_masks(rng, most):
    """Boxes that often overlap much, a few of them exactly equal."""
    masks = []
    for _ in range(rng.integers(0, most + 1)):
        mask = np.zeros(SIZE, bool)
        top, left = rng.integers(0, 3, 2)
        mask[top : top + rng.integers(2, 4), left : left + rng.integers(2, 5)] = True
        masks.append(mask)
    return masks


def against(found, truth, solve):
    """One annotator: TP, FP, FN at every threshold, and the mean local F1; None: both empty."""
    if not found and not truth:
        return None
    ious = np.array([[(p & t).sum() / (p | t).sum() for t in truth] for p in found])
    ious = ious.reshape(len(found), len(truth))
    matched = ious[solve(-ious)]
    counts, scores = [], []
    for threshold in THRESHOLDS:
        tp = int((matched >= threshold - 1e-12).sum())
        fp, fn = len(found) - tp, len(truth) - tp
        precision, recall = tp / (tp + fp + 1e-4), tp / (tp + fn + 1e-4)
        counts.append((tp, fp, fn))
        scores.append(2 * precision * recall / (precision + recall + 1e-4))
    return counts, float(np.mean(scores))


def oracle(pairs, solve):
    """cgF1, IL_MCC and pmF1 of [(found, [truth of each annotator])]."""
    totals = np.zeros((10, 3))
    tp = fp = fn = tn = 0
    for found, truths in pairs:
        best, chosen = against(found, truths[0], solve), truths[0]
        for truth in truths[1:]:
            now = against(found, truth, solve)
            if best is not None and (now is None or now[1] > best[1]):
                best, chosen = now, truth
        tp += bool(found) and bool(chosen)
        fp += bool(found) and not chosen
        fn += not found and bool(chosen)
        tn += not found and not chosen
        for k in range(10):
            if best is not None:
                one = best[0][k]
                totals[k] += (one[0], one[1] if chosen else 0, one[2])
    mcc = (tp * tn - fp * fn) / (((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5 + 1e-6)
    micro = []
    for hits, false, missed in totals:
        p, r = hits / (hits + false + 1e-4), hits / (hits + missed + 1e-4)
        micro.append(2 * p * r / (p + r + 1e-4))
    return np.mean(micro) * mcc, mcc, np.mean(micro)


@pytest.mark.parametrize("seed", range(4))
def test_random_releases(tmp_path, seed):
    solve = pytest.importorskip("scipy.optimize").linear_sum_assignment
    rng = np.random.default_rng(seed)
    keys = range(1, 41)
    exhaustive = {key: {"is_instance_exhaustive": int(rng.random() < 0.8)} for key in keys}
    marked = {name: {key: random_masks(rng, key % 4) for key in keys} for name in "abc"}
    found = {key: random_masks(rng, 3 * (key % 3 > 0)) for key in keys}
    folder = write_saco(tmp_path / "gold", marked, exhaustive)
    (tmp_path / "found.json").write_text(json.dumps(results(found)))
    subset = read_subset("tiny", find_subsets([folder])["tiny"])
    scores = score_subset(subset, read_predictions(tmp_path / "found.json"))
    kept = [key for key in keys if exhaustive[key]["is_instance_exhaustive"]]
    wanted = oracle([(found[k], [marked[n][k] for n in "abc"]) for k in kept], solve)
    assert scores.pairs == len(kept)
    own = [scores.official[name] for name in ("cgF1", "IL_MCC", "pmF1")]
    assert own == pytest.approx(wanted, abs=1e-9)
    assert average([scores, scores])["cgF1"] == pytest.approx(wanted[0])
    unions = []
    for key in keys:
        whole = np.any([np.zeros(SIZE, bool), *found[key]], axis=0)
        truths = [np.any(marked[n][key], axis=0) for n in "abc" if marked[n][key]]
        if truths:
            unions.append(max((whole & t).sum() / (whole | t).sum() for t in truths))
    assert scores.union_iou == pytest.approx(np.mean(unions))
