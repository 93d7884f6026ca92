"""An unreadable prediction or truth is an error, never a smaller set."""

import errno

import numpy as np
import pytest

from core.data.records import Record, RecordSet, Skipped
from core.errors import TTDError, UnreadableError
from core.evaluation.predictions import Problems, read_prediction
from core.utils.files import is_away, reading_error

TRUTH = np.zeros((2, 2), np.uint8)


def prediction(error, problems):
    def read(path):
        raise error

    return read_prediction(problems, "a", "a.png", TRUTH, read=read, wrong=lambda values: "")


def test_only_damage_is_left_out():
    problems = Problems()
    assert prediction(TTDError("a.png: damaged"), problems) is None
    assert problems.counts["unreadable"] == 1
    with pytest.raises(UnreadableError):
        prediction(UnreadableError("a.png: cannot be read"), problems)


def test_a_caption_that_is_away_is_no_smaller_set():
    record = Record(0, "a", None, "a.jpg", "a dog")
    items = [record, Skipped(1, "b", "damaged")]
    assert list(RecordSet("x", 2, True, lambda start: iter(items[start:])).usable()) == [record]
    items.append(Skipped(2, "c", "no permission", True))
    with pytest.raises(UnreadableError, match="c: no permission"):
        list(RecordSet("x", 3, True, lambda start: iter(items[start:])).usable())


@pytest.mark.parametrize("code", ["EIO", "ENOENT", "ESTALE", "EACCES", "ETIMEDOUT", "EPERM"])
def test_what_may_pass(code):
    error = OSError(getattr(errno, code), "x")
    assert is_away(error) and isinstance(reading_error(error, "x"), UnreadableError)


@pytest.mark.parametrize(
    "error", [OSError("image file is truncated"), OSError(errno.EINVAL, "x"), ValueError("x")]
)
def test_what_stays(error):
    assert not is_away(error)
