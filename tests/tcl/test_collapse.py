"""Masks that say nothing stop a run."""

import pytest

from core.tcl.collapse import WINDOW, MaskMonitor


def told(monitor, area, std, steps=WINDOW):
    """The last answer after so many equal steps."""
    for _ in range(steps):
        answer = monitor.update({"mask_area": area, "mask_std": std})
    return answer


@pytest.mark.parametrize(
    ("area", "std", "said"),
    [(0.005, 0.1, "off"), (0.995, 0.1, "on"), (0.4, 1e-4, "flat"), (0.4, 0.1, None)],
)
def test_why_a_run_is_stopped(area, std, said):
    answer = told(MaskMonitor(), area, std)
    assert answer is None if said is None else said in answer


def test_it_takes_a_whole_window_and_forgets_what_is_older():
    monitor = MaskMonitor()
    assert told(monitor, 0.001, 0.1, WINDOW - 1) is None
    assert told(monitor, 0.5, 0.1, WINDOW) is None
    assert told(monitor, 0.001, 0.1, WINDOW) is not None


def test_it_goes_on_from_its_state():
    monitor, again = MaskMonitor(), MaskMonitor()
    told(monitor, 0.001, 0.1, WINDOW - 1)
    again.load(monitor.state())
    assert "off" in told(again, 0.001, 0.1, 1)
