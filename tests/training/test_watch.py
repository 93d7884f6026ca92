"""When a loss has moved, and when it stands still."""

import numpy as np
import pytest

from core.data.records import Skipped
from core.errors import UnreadableError
from core.training.config import RunConfig
from core.training.watch import StallWatch, UnreadableWatch

NOISE = np.tile([1.0, -1.0], 500)


def verdict(losses, **settings):
    """The reason that the watch gives at any step, None for none."""
    watch = StallWatch(RunConfig(steps=2000, warmup=0, stall_percent=10.0, **settings))
    reasons = [watch.update(step, float(loss)) for step, loss in enumerate(losses)]
    said = [step for step, reason in enumerate(reasons) if reason]
    assert said in ([], [199])  # once, after 10 % of the steps
    return reasons[199]


@pytest.mark.parametrize(
    "losses, moved",
    [
        (np.full(400, 5.0), False),
        (np.linspace(5, 4, 400), True),
        (np.r_[np.full(120, 5.0), np.full(280, 3.0)], True),  # late, but it moves
        (np.r_[np.full(80, 5.0), np.full(40, 3.0), np.full(280, 5.0)], False),  # there and back
        (np.r_[np.full(100, 5.0), np.full(300, 4.98)], True),  # a little, and far above its noise
        (5 + NOISE[:400] + np.r_[np.zeros(100), np.full(300, -0.02)], False),  # within its noise
        (5 + NOISE[:400] + np.r_[np.zeros(100), np.full(300, -0.1)], True),  # by 2 %
        (np.r_[np.full(100, np.nan), np.full(300, 5.0)], False),
    ],
)
def test_what_counts_as_movement(losses, moved):
    stands = verdict(losses) is not None
    assert stands == (not moved and not np.isnan(losses[0]))


def test_it_waits_for_the_warm_up_and_can_be_off():
    assert StallWatch(RunConfig(steps=1000, warmup=400)).at == 800
    assert StallWatch(RunConfig(steps=10000, warmup=20)).at == 1000
    assert not StallWatch(RunConfig(steps=199)).on  # too short to tell
    assert not StallWatch(RunConfig(steps=1000, stall_percent=0.0)).on


def test_a_run_ends_when_too_much_cannot_be_read():
    watch = UnreadableWatch(10.0, "pairs")
    lost = [Skipped(7, "p7", "no such file", True)]
    for _ in range(9):
        watch.update(9, lost)  # 10 % exactly, and fewer than 100 samples
    watch.update(10, [Skipped(8, "p8", "damaged")] * 50)  # damaged ones do not count
    with pytest.raises(UnreadableError, match="of the last 1.. pairs.*p7.*unreadable_percent"):
        for _ in range(10):
            watch.update(1, lost)


def test_a_hundred_percent_never_ends_a_run():
    watch = UnreadableWatch(100.0, "pairs")
    for _ in range(30):
        watch.update(1, [Skipped(7, "p7", "away", True)] * 9)
