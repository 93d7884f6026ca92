"""The section "ttd" of a model's config: what is read, what is refused, whom it warns."""

import warnings

import pytest

from core.backbones import load_backbone
from core.backbones.own_settings import ModelDefaults, OwnSettings, parse_own_settings
from core.errors import TTDError


def test_everything_may_be_left_out_and_notes_are_ignored():
    assert parse_own_settings({}, "x") == OwnSettings()
    assert parse_own_settings({"ttd": {"fitted_on": "500 images", "head": None}}, "x").head is None


def test_values_reach_their_places():
    own = parse_own_settings(
        {
            "ttd": {
                "head": "kk",
                "mask_scale": 5,
                "mask_bias": -0.5,
                "min_score": 0.2,
                "defaults": {"image": 96, "templates": "identity", "bg": 1},
            }
        },
        "x",
    )
    assert own.defaults == ModelDefaults(96, "identity", 1.0)
    assert (own.head, own.mask_scale, own.mask_bias, own.min_score) == ("kk", 5.0, -0.5, 0.2)


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ([1], "ttd"),
        ({"defaults": 3}, "defaults"),
        ({"head": 7}, "head"),
        ({"mask_scale": float("nan")}, "mask_scale"),
        ({"mask_bias": True}, "mask_bias"),
        ({"min_score": 1.5}, "min_score"),
        ({"defaults": {"bg": "0.4"}}, "bg"),
        ({"defaults": {"image": 0}}, "image"),
        ({"defaults": {"image": 96.5}}, "image"),
        ({"defaults": {"templates": 80}}, "templates"),
    ],
)
def test_other_values_are_refused_by_name(section, named):
    with pytest.raises(TTDError, match=f"config.json: {named}"):
        parse_own_settings({"ttd": section}, "config.json")


def test_tiny_warns_once_and_never_of_a_square_image():
    backbone = load_backbone("tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for side in (32, 96, 384, 2048):
            backbone.notice(side, side)
    with pytest.warns(UserWarning, match="640 x 427 pixels.*--arch CLIP or TCL"):
        backbone.notice(427, 640)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.notice(427, 640)
    backbone.own, backbone._noticed = OwnSettings(), False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.notice(427, 640)  # a model of another config
