"""The default dense head: the one a local folder's config names; else it follows the pooling."""

import pytest
from small_clip import model_config, write_clip

from core.backbones import load_backbone
from core.errors import TTDError


@pytest.mark.parametrize(
    ("pool", "own", "want"),
    [
        ("avg", {}, "vanilla"),
        ("tok", {}, "maskclip"),
        ("avg", {"head": "kk"}, "kk"),
        ("tok", {"mask_scale": 5.0, "mask_bias": 0.1}, "maskclip"),
    ],
)
def test_config_then_pooling(tmp_path, pool, own, want):
    write_clip(tmp_path, model_config({"pool_type": pool}), ttd=own)
    assert load_backbone(f"local-dir:{tmp_path}").head == want
    assert load_backbone(f"local-dir:{tmp_path}", head="sclip").head == "sclip"


def test_a_head_that_does_not_exist_is_named(tmp_path):
    write_clip(tmp_path, model_config(), ttd={"head": "best"})
    with pytest.raises(TTDError, match="best"):
        load_backbone(f"local-dir:{tmp_path}")
