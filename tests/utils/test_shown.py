"""Lists in messages."""

import pytest

from core.utils.shown import beginning, first_few


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (1, "a"), (2, "a, b"), (3, "a, b and 1 more"), (5, "a, b and 3 more")],
)
def test_the_first_few_and_how_many_more(count, expected):
    assert first_few(list("abcde")[:count], 2) == expected


def test_the_beginning_ends_in_dots_only_where_something_is_left_out():
    assert beginning([]) == "" and beginning([3, 1], 2) == "3, 1"
    assert beginning([3, 1, 2], 2) == "3, 1, ..."
