"""One check for all that is written."""

import json

import pytest
import torch

from core.data.records import Record
from core.errors import TTDError
from core.tags.pair_scores import score_lines
from core.utils.finite import check_finite, check_weights, without_nan


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named(bad):
    with pytest.raises(TTDError, match="dog.jpg: the result is not finite.*float32"):
        check_finite(torch.tensor([0.0, bad]), "dog.jpg")
    with pytest.raises(TTDError, match="dog.jpg"):
        check_finite([1.0, bad], "dog.jpg")
    with pytest.raises(TTDError, match="x.pt: tensor b is not finite"):
        check_weights({"a": torch.ones(2), "b": torch.tensor([bad]).half()}, "x.pt")


def test_numbers_pass():
    check_finite(torch.tensor([1e38, -1e38]), "a")
    check_finite([0.0], "a")
    check_weights({"n": torch.arange(3), "w": torch.zeros(0)}, "x")


def test_a_score_that_is_no_number_is_not_a_line():
    record = Record(0, "a", None, "a.jpg", "a dog")
    with pytest.raises(TTDError, match=r"a\.jpg"):
        score_lines([record], torch.tensor([float("nan")]))


def test_json_has_no_nan():
    content = without_nan({"a": [1.0, float("nan")], "b": {"c": float("inf")}, "d": (2, "x")})
    assert json.loads(json.dumps(content, allow_nan=False)) == {
        "a": [1.0, None],
        "b": {"c": None},
        "d": [2, "x"],
    }
