"""Class lists as tools write them: what names label 0, what is no class, what repeats."""

import pytest

from core.data.labels.class_names import parse_classes
from core.errors import TTDError


@pytest.mark.parametrize(
    "before",
    [
        ["_background_"], ["background"], ["Background "], ["bg"], ["BG"], ["__background__"],
        ["background|wall|sky"], ["wall|background"], ["__ignore__", "_background_"],
        ["__ignore__"], ["Back-ground"], ["backgrounds"], ["_back_ground_"], [],
    ],
)  # fmt: skip
def test_first_names_that_stand_for_label_0(before):
    assert parse_classes([*before, "cat", "dog"], True, "x") == ("cat", "dog")


@pytest.mark.parametrize(
    "names", [["unlabeled", "cat"], ["void", "cat"], ["other", "cat"], ["__unlabeled__", "cat"],
              ["no_label", "cat"], ["N/A", "cat"], ["nothing", "cat"], ["Ignore-Region", "cat"],
              ["unlabeled|void", "cat"], ["don't care", "cat"], ["null", "cat"],
              ["cat", "background"], ["cat", "bg|wall"], ["cat", "__ignore__"]],
)  # fmt: skip
def test_what_may_shift_labels_is_refused(names):
    with pytest.raises(TTDError, match="^x: "):
        parse_classes(names, True, "x")


def test_without_a_background_names_are_prompts():
    assert parse_classes(["background", "bg", "other"], False, "x") == ("background", "bg", "other")
    assert parse_classes(["empty", "nothing else", "other"], True, "x")[0] == "empty"
    with pytest.raises(TTDError, match="mark of a tool"):
        parse_classes(["_background_", "cat"], False, "x")


@pytest.mark.parametrize("names", [["Cat", "cat"], ["cat", " cat"], ["a  b", "a b"], ["cat"] * 2,
                                   ["cat|kitten", "kitten|cat"],
                                   ["caf\u00e9", "cafe\u0301"]])  # fmt: skip
def test_classes_that_differ_in_form_only(names):
    with pytest.raises(TTDError, match="listed twice"):
        parse_classes([*names, "dog"], True, "x")
