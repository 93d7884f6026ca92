"""Run lengths and polygons against counting by hand, and against the areas that COCO states."""

import json

import numpy as np
import pytest
from paths import ROOT

from core.data.labels.rle import decode, encode, fill_polygons
from core.errors import TTDError


def counts_by_hand(mask):
    counts, current, run = [], False, 0
    for value in mask.T.ravel().tolist():
        if value != current:
            counts.append(run)
            current, run = value, 0
        run += 1
    return [*counts, run]


def packed_by_hand(counts):
    """COCO's compressed form, from its definition: signed base-32 digits.

    From the third count on they are differences from the last but one.
    """
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
            if not more:
                break
    return text


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_equal_counting_by_hand(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 60, 2))) < rng.choice([0.02, 0.5, 0.98])
    rle = encode(mask)
    assert rle["counts"] == counts_by_hand(mask) and rle["size"] == list(mask.shape)
    json.dumps(rle)
    assert np.array_equal(decode(rle), mask)
    packed = packed_by_hand(rle["counts"])
    assert np.array_equal(decode({"size": rle["size"], "counts": packed}), mask)
    assert np.array_equal(decode({"size": rle["size"], "counts": packed.encode()}), mask)


def test_run_lengths_of_uniform_masks():
    assert encode(np.zeros((2, 3), bool))["counts"] == [6]
    assert encode(np.ones((2, 3), bool))["counts"] == [0, 6]
    assert np.array_equal(decode(encode(np.ones((2, 3), bool))), np.ones((2, 3), bool))
    assert encode(np.array([[True, False], [False, False]]))["counts"] == [0, 1, 3]


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [2, 2], "counts": [3]},
        {"size": [2, 2]},
        {"size": [2], "counts": [2]},
        {"size": [2, 2], "counts": [5, -1]},
        {"size": [1, 1], "counts": ["x"]},
    ],
)
def test_run_lengths_that_are_none(rle):
    with pytest.raises(TTDError):
        decode(rle)


@pytest.mark.parametrize("seed", range(8))
def test_polygons_equal_the_even_odd_rule_at_every_centre(seed):
    rng = np.random.default_rng(seed)
    height, width = 17, 23
    polygons = [(rng.random((int(rng.integers(3, 9)), 2)) * [30, 24] - 3.3) for _ in range(2)]
    want = np.zeros((height, width), bool)
    for points in polygons:
        for y in range(height):
            for x in range(width):
                inside = False
                for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
                    if (y0 > y + 0.5) != (y1 > y + 0.5) and x + 0.5 > x0 + (y + 0.5 - y0) * (
                        x1 - x0
                    ) / (y1 - y0):
                        inside = not inside
                want[y, x] |= inside
    assert np.array_equal(
        fill_polygons([p.ravel().tolist() for p in polygons], height, width), want
    )


def test_a_centre_on_the_outline_belongs_to_the_polygon_on_its_right():
    """From 0.5 to 2.5 in both directions: the pixels 0 and 1, not 2."""
    square = fill_polygons([[0.5, 0.5, 2.5, 0.5, 2.5, 2.5, 0.5, 2.5]], 4, 4)
    want = np.zeros((4, 4), bool)
    want[:2, :2] = True
    assert np.array_equal(square, want)


def test_polygons_of_whole_pixels():
    assert fill_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], 5, 6).sum() == 6
    assert not fill_polygons([[1, 1, 2, 2]], 5, 6).any()


def test_polygons_have_the_areas_that_coco_states():
    path = ROOT / "tests/support/facts/coco_instances.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    ours, theirs = [], []
    for item in content["annotations"]:
        if isinstance(item["segmentation"], list) and item["area"] > 100:
            ours.append(fill_polygons(item["segmentation"], *sizes[item["image_id"]]).sum())
            theirs.append(item["area"])
    assert len(ours) == 40
    errors = np.abs(np.array(ours) - theirs) / np.sqrt(theirs)  # along the outline
    assert errors.max() < 1.5 and sum(ours) == pytest.approx(sum(theirs), rel=2e-3)
