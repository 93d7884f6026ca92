"""Statistics of word maps, and the watch over them."""

import pytest
import torch

from core.ttd.collapse import CollapseMonitor, MapStatistics, map_statistics
from core.ttd.embedding import Maps, gather_texts


def test_statistics_tell_alike_maps_from_different_ones():
    texts = gather_texts(["up down up"])
    selected = torch.tensor([[True, True, True]])
    up, down = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    maps = Maps(torch.stack([up, down, up])[None], up[None])
    found = map_statistics(maps, selected, texts)  # the two "up" are one word: no pair
    assert (found.map_std, found.map_correlation, found.selected) == pytest.approx((0.5, -1.0, 1.0))
    same = map_statistics(Maps(torch.stack([up, up, up])[None], up[None]), selected, texts)
    assert same.map_correlation == pytest.approx(1.0)


def test_the_monitor_sees_collapse_and_only_collapse_and_survives_a_checkpoint():
    healthy, alike, dead = (
        MapStatistics(0.1, 0.2, 0.3),
        MapStatistics(0.1, 0.97, 0.3),
        MapStatistics(0.001, 0.2, 0.3),
    )
    monitor = CollapseMonitor(window=4)
    assert not any(monitor.update(healthy) for _ in range(30))
    for bad, word in ((alike, "alike"), (dead, "variance")):
        copy = CollapseMonitor(window=4)
        copy.restore(monitor.state())
        reasons = [copy.update(bad) for _ in range(30)]
        assert reasons[0] is None and word in reasons[-1]  # one odd batch is not a collapse
