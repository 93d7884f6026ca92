"""Names of folders as the published commands have them, protocols and their constants."""

import dataclasses

import pytest

from core.errors import TTDError
from core.masks.protocol import PROTOCOLS, MaskProtocol, folder_name, protocol

SCALES = (1.0, 0.5, 1.5, 2.0)


def name(
    arch="TCL",
    data="VOC2012",
    adapted=True,
    size=224,
    extras=None,
    rule="threshold",
    background_threshold=0.4,
    **overrides,
):
    used = protocol(overrides.pop("protocol", "ttd"), **overrides).resolve(
        arch, size, rule, background_threshold
    )
    return folder_name(arch, data, used, adapted, rule, extras)


def test_published_names():
    """The two folders that the published evaluation commands read."""
    flags = {"scales": SCALES, "hflip": True, "pamr": True, "background_threshold": 0.40}
    assert name(**flags) == "TCL@VOC2012@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40"
    assert (
        name(data="CC3M", **flags)
        == "TCL@CC3M@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40"
    )


def test_what_is_left_out_is_left_out_of_the_name():
    assert name(adapted=False) == "TCL@VOC2012@OpenAI@[1.0]@448@s=2@bg=0.40"
    assert (
        name(adapted=False, background_threshold=0.45, data="ADE2016", rule="none")
        == "TCL@ADE2016@OpenAI@[1.0]@448@s=2@bg=0.45"
    )


def test_unusual_settings_are_appended():
    assert name(
        adapted=False, head="kk", kp_weight=0.3, window=224, s=4, templates="custom", crf=True
    ) == ("TCL@VOC2012@custom@[1.0]@448@s=4@bg=0.40@window=224@head=kk@crf=True@kp_weight=0.3")
    used = protocol("ttd", rule="threshold").resolve("TCL", 224, "none", 0.45)
    assert folder_name("TCL", "ADE2016", used, False, "none", {"limit": 5, "dtype": None}) == (
        "TCL@ADE2016@OpenAI@[1.0]@448@s=2@bg=0.45@rule=threshold@limit=5"
    )


def test_arch_becomes_a_file_name():
    assert name(arch="ViT-B-16:/models/a.pt", adapted=False).startswith(
        "ViT-B-16__models_a.pt@VOC2012@"
    )
    assert name(arch="hf-hub:ORG/NAME", adapted=False).startswith("hf-hub_ORG_NAME@")


def test_protocols_are_named_and_only_their_overrides_appended():
    assert (
        name(protocol="tcl", adapted=False)
        == "TCL@VOC2012@custom@[1.0]@448@s=2@pamr@bg=0.40@protocol=tcl"
    )
    assert name(protocol="tcl", adapted=False, pamr=False, kp_weight=0.0) == (
        "TCL@VOC2012@custom@[1.0]@448@s=2@bg=0.50@protocol=tcl@kp_weight=0.0"
    )
    assert name(arch="CLIP", protocol="naclip", adapted=False) == (
        "CLIP@VOC2012@OpenAI@[1.0]@336@s=2@bg=0.40@protocol=naclip"
    )
    assert name(arch="CLIP", protocol="naclip", adapted=False, scale=100.0).endswith(
        "@protocol=naclip@scale=100.0"
    )


def test_image_defaults_to_twice_the_models_own_size():
    assert protocol("ttd").resolve("tiny", 96, "threshold", 0.4).image == 192
    assert protocol("ttd", image=100).resolve("tiny", 96, "threshold", 0.4).side == 100


def test_constants_of_the_papers():
    """Windows / strides: TCL, ClearCLIP 448/224, SCLIP, NACLIP 224/112; temperatures 40, 40, 50."""
    resolved = {key: p.resolve("CLIP", 224, "threshold", 0.4) for key, p in PROTOCOLS.items()}
    found = {key: (p.image, p.side, p.step, p.scale, p.head) for key, p in resolved.items()}
    assert found == {
        "ttd": (448, 448, 224, None, None),
        "tcl": (448, 448, 224, None, None),
        "sclip": (336, 224, 112, 40.0, "sclip"),
        "naclip": (336, 224, 112, 40.0, "naclip"),
        "clearclip": (448, 448, 224, 50.0, "clearclip"),
    }
    assert (
        resolved["tcl"].kp_weight == 0
        and protocol("tcl").resolve("TCL", 224, "none", 0.4).kp_weight == 0.3
    )
    assert (resolved["ttd"].pamr_at, resolved["ttd"].kp_weight, resolved["ttd"].templates) == (
        "picture",
        0,
        "OpenAI",
    )


def test_a_protocol_decides_what_the_set_leaves_open_and_the_flags_win():
    assert (
        protocol("tcl").resolve("TCL", 224, "threshold", 0.45).background_threshold == 0.4
    )  # TCL's own, for all sets
    assert (
        protocol("tcl", pamr=False).resolve("TCL", 224, "threshold", 0.45).background_threshold
        == 0.5
    )
    assert (
        protocol("tcl", background_threshold=0.3)
        .resolve("TCL", 224, "none", 0.45)
        .background_threshold
        == 0.3
    )
    assert protocol("ttd").resolve("TCL", 224, "none", 0.45).background_threshold == 0.45
    assert protocol("ttd").resolve("TCL", 224, "none", 0.45).rule == "none"
    assert protocol("ttd", rule="threshold").resolve("TCL", 224, "none", 0.45).rule == "threshold"


def test_a_protocol_is_frozen_and_goes_into_json():
    import json

    used = protocol("ttd", scales=SCALES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        used.background_threshold = 0.1
    stored = json.loads(json.dumps(used.as_dict()))
    names = {f.name for f in dataclasses.fields(MaskProtocol)}
    assert set(stored) == names - {"background_threshold"} | {"bg"}  # files say `bg`, as the flag
    assert stored["scales"] == [1.0, 0.5, 1.5, 2.0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"scales": (1.0, 0.0)}, "scales"),
        ({"image": 0}, "image size must be at least 1 pixel, got 0"),
        ({"rule": "best"}, "threshold, none"),
        ({"background_threshold": 1.5}, "1.5"),
        ({"kp_weight": 2.0}, "kp_weight"),
        ({"pamr": True, "crf": True}, "choose one"),
        ({"pamr_at": "map"}, "picture, window"),
        ({"name": "naclip", "crf": True}, "CRF"),
        ({"name": "naclip", "kp_weight": 0.3}, "cosines"),
        ({"resize": "nearest"}, "antialias, opencv"),
    ],
)
def test_bad_values_are_one_line(overrides, said):
    with pytest.raises(TTDError, match=said) as error:
        protocol(overrides.pop("name", "ttd"), **overrides)
    assert "\n" not in str(error.value)


def test_unknown_protocol_lists_all():
    with pytest.raises(TTDError, match="ttd, tcl, sclip, naclip, clearclip"):
        protocol("segformer")
