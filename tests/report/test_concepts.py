"""Intervals of cgF1 on SA-Co's page, against draws of images that are written down as loops."""

import json
import re

import numpy as np
import pytest
from small_phrases import box_mask, results, write_saco

import evaluate_phrase_masks as script

LEFT, TOP, MOST = box_mask(0, 0, 6, 4), box_mask(0, 0, 3, 4), box_mask(0, 0, 5, 4)
# Of each pair: what is true and, of two results, what is found. Pairs 1 and 11 are of one image,
# and 2 and 12.
SUBSETS = {
    "one": {
        1: (LEFT, LEFT, LEFT), 11: (None, None, None), 2: (LEFT, TOP, MOST), 12: (None, TOP, None),
        3: (TOP, None, None), 4: (None, None, TOP), 5: (MOST, LEFT, LEFT),
    },
    "two": {
        1: (LEFT, MOST, TOP), 2: (None, None, LEFT), 3: (None, TOP, TOP), 5: (TOP, TOP, TOP),
        6: (None, None, None),
    },
}  # fmt: skip


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


def scores_by_hand(pairs):
    """cgF1, IL_MCC and pmF1 of (true, found) masks, from the evaluator's definition."""
    tp = sum(a is not None and b is not None for a, b in pairs)
    fp = sum(a is None and b is not None for a, b in pairs)
    fn = sum(a is not None and b is None for a, b in pairs)
    tn = len(pairs) - tp - fp - fn
    root = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    mcc = (tp * tn - fp * fn) / (root + 1e-6)
    curve = []
    for percent in range(50, 100, 5):
        right = wrong = missed = 0
        for true, found in pairs:
            if true is None:
                continue
            hit = found is not None and overlap(true, found) >= percent / 100 - 1e-9
            right, missed = right + hit, missed + (not hit)
            wrong += found is not None and not hit
        precision, recall = right / (right + wrong + 1e-4), right / (right + missed + 1e-4)
        curve.append(2 * precision * recall / (precision + recall + 1e-4))
    return np.array([np.mean(curve) * mcc, mcc, np.mean(curve)])


def drawn_by_hand(pairs, which, seed):
    """The scores of all pairs and of 2,000 draws of their images; which: of the two results."""
    images = list(dict.fromkeys(key % 10 for key in pairs))
    shares = [1 / len(images)] * len(images)
    weights = np.random.default_rng(seed).multinomial(len(images), shares, 2000)
    draws = []
    for counts in [[1] * len(images), *weights.tolist()]:
        drawn = []
        for image, count in zip(images, counts, strict=True):
            drawn += [(m[0], m[which]) for key, m in pairs.items() if key % 10 == image] * count
        draws.append(scores_by_hand(drawn))
    return draws[0], np.array(draws[1:])


def shown(value, draws, sign=""):
    """As a cell says it, in percent."""
    low, high = np.quantile(draws, [0.025, 0.975])
    said = f"{100 * value:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"
    return said.replace("+0.0", "0.0")


def run_script(tmp_path, *options):
    """The page of two subsets, their second result against the third."""
    truth = {}
    for name, pairs in SUBSETS.items():
        marked = {key: [masks[0]] for key, masks in pairs.items() if masks[0] is not None}
        truth = write_saco(tmp_path / "gold", {"a": marked}, dict.fromkeys(pairs, {}), name)
        for folder, which in (("now", 1), ("old", 2)):
            found = {key: [m[which]] for key, m in pairs.items() if m[which] is not None}
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.json").write_text(json.dumps(results(found)))
    argv = ["--protocol", "saco", "--truth", str(truth), "--pred", str(tmp_path / "now")]
    page = tmp_path / "page.html"
    assert script.main([*argv, "--report", str(page), *options]) == 0
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def by_hand():
    """Of the result and the earlier one: scores [3, 3] and draws [3, 2000, 3] of one, two, mean."""
    found = []
    for which in (1, 2):
        each = [drawn_by_hand(pairs, which, k) for k, pairs in enumerate(SUBSETS.values())]
        values, draws = (np.array(part) for part in zip(*each, strict=True))
        found.append(
            (np.vstack([values, values.mean(0)]), np.concatenate([draws, [draws.mean(0)]]))
        )
    return found


def test_intervals_of_subsets_of_their_mean_and_of_the_change(tmp_path, capsys, by_hand):
    (values, draws), (old, before) = by_hand
    source = run_script(tmp_path, "--against", str(tmp_path / "old"))
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", source[source.index("95 % interval, %") :])[:3]
    wanted = []
    for place, name in enumerate(("one", "two", "mean of 2 subsets")):
        cells = [shown(values[place, k], draws[place, :, k]) for k in range(3)]
        gains = draws[place, :, 0] - before[place, :, 0]
        cells.append(shown(values[place, 0] - old[place, 0], gains, "+"))
        wanted.append([name, *cells])
    assert [re.findall(r"<td>(.*?)</td>", row) for row in rows] == wanted
    low, high = (100 * np.quantile(draws[2, :, 0], share) for share in (0.025, 0.975))
    assert f"mean of 2 subsets; 95 %: {low:.1f} to {high:.1f}" in source
    gain = 100 * (values[2, 0] - old[2, 0])
    assert f"now, cgF1 semantic: {gain:+.1f} points" in capsys.readouterr().out


def test_one_result(tmp_path):
    source = run_script(tmp_path)
    assert "95 % interval, %" in source and "change of cgF1" not in source
    assert "every phrase is there, or none" in source
