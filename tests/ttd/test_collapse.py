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


def test_collapse_is_relative_to_the_start():
    """Maps that are weak from the start are no collapse; strong ones that fall to 29 % are."""
    for start, now, stops in ((0.01, 0.0035, False), (0.01, 0.0029, True), (1.0, 0.31, False)):
        monitor = CollapseMonitor(window=2)
        for _ in range(2):
            assert monitor.update(MapStatistics(start, 0.0, 0.5)) is None
        reasons = [monitor.update(MapStatistics(now, 0.0, 0.5)) for _ in range(40)]
        assert (reasons[-1] is not None) == stops, (start, now)


def test_the_running_average_by_hand():
    monitor = CollapseMonitor(window=2)
    for deviation in (0.4, 0.2, 0.1):
        monitor.update(MapStatistics(deviation, 0.5, 0.5))
    assert monitor.values["start"] == pytest.approx([0.3, 0.5])
    assert monitor.values["now"] == pytest.approx([0.2, 0.5])  # (0.3 + 0.1) / 2
    again = CollapseMonitor(window=2)
    again.restore(monitor.state())
    again.update(MapStatistics(0.4, 0.5, 0.5))
    assert again.values["now"][0] == pytest.approx(0.3) and again.values["start"][
        0
    ] == pytest.approx(0.3)


@pytest.mark.parametrize("now, stops", [(0.9, False), (0.94, True)])
def test_maps_that_are_alike_from_the_start_are_no_collapse(now, stops):
    """Correlation 0.8 at the start leaves 0.2; 0.9 leaves half of that, 0.94 less than 35 %."""
    monitor = CollapseMonitor(window=2)
    for _ in range(2):
        assert monitor.update(MapStatistics(0.1, 0.8, 0.5)) is None
    reasons = [monitor.update(MapStatistics(0.1, now, 0.5)) for _ in range(40)]
    assert (reasons[-1] is not None) == stops
