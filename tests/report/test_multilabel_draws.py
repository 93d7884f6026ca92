"""The interval of mAP: around the score, as wide as that of scores of fresh sets of images."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.data.multilabel.label_sets import LabelSet, plain_variant
from core.report.multilabel import ClassScores, drawn_map, multilabel_report


def one_set(rng, images=300, classes=8):
    """Scores of images that are a little higher where the class is there, and the labels."""
    truth = rng.random((images, classes)) < 0.1
    scores = rng.normal(size=truth.shape) + 1.5 * truth
    return ClassScores("x", scores, {}), plain_variant("own", "", truth)


def test_the_interval_is_that_of_other_images():
    rng = np.random.default_rng(0)
    fresh = [drawn_map(*one_set(rng))[0] for _ in range(40)]
    for found in fresh:
        assert found.low < found.value < found.high
    values = np.array([found.value for found in fresh])
    covered = np.mean([found.low <= values.mean() <= found.high for found in fresh])
    assert covered >= 0.8
    widths = np.mean([found.high - found.low for found in fresh])
    assert widths == pytest.approx(2 * 1.96 * values.std(ddof=1), rel=0.35)


def test_a_reading_without_images_or_positives():
    scores, variant = one_set(np.random.default_rng(1), images=5)
    nobody = plain_variant("own", "", variant.truth, rows=np.zeros(5, bool))
    nothing = plain_variant("own", "", np.zeros_like(variant.truth))
    for reading in (nobody, nothing):
        found, drawn = drawn_map(scores, reading)
        assert np.isnan([found.value, found.low, found.high]).all() and np.isnan(drawn).all()


def average_precision(scores, truth):
    """The mean, over the positives, of the precision at their score, by counting; None: none."""
    found = []
    for own, there in zip(scores, truth, strict=True):
        if there:
            above = [t for s, t in zip(scores, truth, strict=True) if s >= own]
            found.append(sum(above) / len(above))
    return sum(found) / len(found) if found else None


def repeated_map(scores, variant, rows):
    """mAP of images that are there as often as their row is listed; NaN: no class has any."""
    found = []
    for k in range(scores.shape[1]):
        kept = [row for row in rows if variant.scored[row, k]]
        own = average_precision(scores[kept, k].tolist(), variant.truth[kept, k].tolist())
        found += [own] * (own is not None)
    return sum(found) / len(found) if found else float("nan")


def drawn_by_hand(scores, variant):
    """mAP on a reading and on every draw of its images, moved to have the score as their mean."""
    rows = np.flatnonzero(variant.rows)
    weights = np.random.default_rng(0).multinomial(len(rows), [1 / len(rows)] * len(rows), 500)
    drawn = [repeated_map(scores, variant, np.repeat(rows, own)) for own in weights]
    value = repeated_map(scores, variant, rows)
    return value, np.array(drawn) - np.nanmean(drawn) + value


def four_readings():
    """12 images of two classes: all; some ignored, of 9 images; nothing there; no image."""
    rng = np.random.default_rng(5)
    truth = rng.random((12, 2)) < 0.4
    whole = plain_variant("all", "every image", truth)
    part = replace(whole, name="part", rows=np.arange(12) < 9, scored=rng.random((12, 2)) < 0.8)
    nothing = plain_variant("nothing", "", np.zeros_like(truth))
    nobody = plain_variant("nobody", "", truth, rows=np.zeros(12, bool))
    ids = tuple(map(str, range(12)))
    images = tuple(map(Path, ids))
    labels = LabelSet("own", "set", ("a", "b"), ids, images, (whole, part, nothing, nobody))
    return labels, rng.random((2, 12, 2)).round(1)  # with equal scores


def test_every_reading_has_its_interval():
    """Of two results and their difference, against draws written down as loops."""
    labels, (now, old) = four_readings()
    results = [ClassScores("now", now, {}), ClassScores("old", old, {})]
    drawn = {one.name: [drawn_map(one, own) for own in labels.variants] for one in results}
    page = multilabel_report(labels, results[:1], drawn, before=results[1])
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page[page.index("95 % interval, %") :])[:3]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    wanted = []
    for variant in labels.variants[:2]:
        (first, many), (second, others) = (drawn_by_hand(own, variant) for own in (now, old))
        for draws, form in ((many, ".1f"), (others, ".1f"), (many - others, "+.1f")):
            low, high = 100 * np.nanquantile(draws, [0.025, 0.975])
            wanted.append(f"{low:{form}} to {high:{form}}")
        assert drawn["now"][0][0].value == pytest.approx(drawn_by_hand(now, labels.variants[0])[0])
    assert [row[1] for row in cells] == wanted[:3] and [row[2] for row in cells] == wanted[3:]
    assert [row[0] for row in cells] == ["now", "old", "change, points, against old"]
    assert all(row[3:] == ["-", "-"] for row in cells)


def test_one_reading_needs_no_second_table():
    labels, (now, _) = four_readings()
    labels = replace(labels, variants=labels.variants[:1])
    one = ClassScores("now", now, {})
    page = multilabel_report(labels, [one], {"now": [drawn_map(one, labels.variants[0])]})
    assert "95 % interval, %" not in page and "95 % interval" in page
