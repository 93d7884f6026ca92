"""Reading ahead: order, how much is in flight, errors in place, and an early end."""

import os
import signal
import threading
import time

import pytest

from core.utils.prefetch import prefetch, prefetch_groups


def test_results_come_in_order_whatever_finishes_first():
    def work(number):
        time.sleep(0.01 * (5 - number % 5))
        return number * number

    assert list(prefetch(work, range(20), ahead=6, workers=5)) == [n * n for n in range(20)]


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_no_more_is_begun_than_asked_for(ahead):
    begun = []
    stream = prefetch(begun.append, range(100), ahead, workers=1)
    for taken in range(1, 6):
        next(stream)
        time.sleep(0.01)
        assert len(begun) <= taken + ahead
    stream.close()
    assert len(begun) <= 5 + ahead


def test_an_error_is_raised_where_its_result_would_come():
    def work(number):
        return 1 / (3 - number)

    stream = prefetch(work, range(6), ahead=5, workers=2)
    assert [next(stream), next(stream), next(stream)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_whoever_stops_early_cancels_what_has_not_begun_and_waits_for_what_has():
    gate, begun, ended = threading.Event(), [], []

    def work(number):
        begun.append(number)
        if number:
            gate.wait(5)
        ended.append(number)
        return number

    stream = prefetch(work, range(50), ahead=20, workers=1)
    assert next(stream) == 0
    threading.Timer(0.05, gate.set).start()
    stream.close()
    assert begun == ended and len(begun) <= 2


def test_an_interrupt_while_it_waits_for_what_has_begun_is_raised():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    gate, begun = threading.Event(), threading.Event()

    def work(number):
        if number:
            begun.set()
            gate.wait(5)

    stream = prefetch(work, range(9), ahead=3, workers=1)
    next(stream)
    assert begun.wait(5)  # else there is nothing to wait for
    interrupts = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    interrupts.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            stream.close()
    finally:
        interrupts.cancel()  # or it ends the tests that follow
        gate.set()


def test_nothing_is_written_after_an_error_has_been_raised():
    failed, written = threading.Event(), []

    def work(number):
        if number == 0:
            raise OSError(28, "No space left on device")
        failed.wait(0.05)
        written.append(number)

    with pytest.raises(OSError, match="No space left"):
        list(prefetch(work, range(8), ahead=6, workers=4))
    before = list(written)
    failed.set()
    time.sleep(0.1)
    assert written == before


def test_groups_are_yielded_as_they_were_submitted():
    def start(pool, pair):
        return [pool.submit(pow, value, 2) for value in pair]

    groups = prefetch_groups(start, [(1, 2), (), (3,)], ahead=1, workers=2)
    assert [[future.result() for future in group] for group in groups] == [[1, 4], [], [9]]
