"""Masks as intervals against the masks themselves."""

import numpy as np
import pytest

from core.data.labels.regions import intersection, iou_matrix, nothing, region_of, union, unpacked
from core.data.labels.rle import compress, encode
from core.errors import TTDError


def masks(seed, count=12):
    rng = np.random.default_rng(seed)
    found = [rng.random((9, 7)) < share for share in rng.random(count)]
    return [*found, np.zeros((9, 7), bool), np.ones((9, 7), bool)]


@pytest.mark.parametrize("form", [encode, compress])
def test_areas_intersections_unions(form):
    every = masks(0)
    regions = [region_of(form(mask)) for mask in every]
    matrix = iou_matrix(regions, regions)
    for i, first in enumerate(every):
        assert regions[i].area == first.sum()
        for j, second in enumerate(every):
            both, either = (first & second).sum(), (first | second).sum()
            assert intersection(regions[i], regions[j]) == both
            assert union([regions[i], regions[j]]).area == either
            assert matrix[i, j] == (both / either if either else 0)
    together = union(regions[:5])
    assert together.area == np.any(every[:5], axis=0).sum()
    assert intersection(together, regions[7]) == (np.any(every[:5], axis=0) & every[7]).sum()


def test_unpacked_as_they_were():
    for mask in masks(1):
        assert (unpacked(region_of(compress(mask))) == mask).all()
    assert unpacked(nothing((9, 7))).shape == (9, 7) and not unpacked(nothing((9, 7))).any()


def test_corners():
    for seed in range(6):
        for mask in [*masks(seed, 4), np.eye(9, 7, seed - 3) > 0, np.rot90(masks(seed)[0])]:
            left, top, right, bottom = region_of(encode(mask)).corners()
            rows, columns = np.nonzero(mask)
            wanted = (0, 0, 0, 0)
            if len(rows):
                wanted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert (left, top, right, bottom) == wanted


def test_other_sizes_and_damage_are_refused():
    small, large = (
        region_of(encode(np.ones((2, 2), bool))),
        region_of(encode(np.ones((4, 1), bool))),
    )
    with pytest.raises(TTDError, match="different sizes"):
        intersection(small, large)
    for counts in ([3], [1, -1, 4], "0", None, [1.5, 2.5]):
        with pytest.raises(TTDError):
            region_of({"size": [2, 2], "counts": counts})
    with pytest.raises(TTDError):  # nothing of that size is ever unpacked
        region_of({"size": [10**9, 10**9], "counts": [10**18]})
