"""Folders and names: what is loaded, and what is said where nothing can be."""

import json

import pytest
import torch
from paths import ROOT
from small_clip import (
    assert_equals_open_clip,
    model_config,
    random_images,
    write_clip,
    write_config,
)

from core.backbones import BACKBONES, load_backbone
from core.errors import TTDError


def test_a_folder_without_weights_is_never_random(tmp_path):
    write_config(tmp_path, model_config())
    with pytest.raises(TTDError, match="open_clip_model.safetensors"):
        load_backbone(f"local-dir:{tmp_path}")


def test_a_folder_without_config(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TTDError, match="open_clip_config.json"):
            load_backbone(f"local-dir:{path}")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"model_cfg": {"embed_dim": 3}}', '{"model_cfg": null}']
)
def test_a_broken_config_is_one_line(tmp_path, content):
    write_clip(tmp_path, model_config())
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(TTDError, match="open_clip_config.json"):
        load_backbone(f"local-dir:{tmp_path}")


def test_a_config_of_another_size_than_the_weights(tmp_path):
    write_clip(tmp_path, model_config())
    write_config(tmp_path, model_config({"width": 96}))
    with pytest.raises(TTDError, match="open_clip_model.safetensors"):
        load_backbone(f"local-dir:{tmp_path}")


def test_the_grid_of_the_file_is_not_bent_in_silence(tmp_path):
    """An image size that does not fit the stored position table, which open_clip would resize."""
    weights = write_clip(tmp_path, model_config())
    write_config(tmp_path, model_config({"image_size": 48}))
    try:
        backbone = load_backbone(f"local-dir:{tmp_path}")
    except TTDError:
        return
    table = [
        p
        for name, p in backbone.named_parameters()
        if name.startswith("visual") and "positional" in name
    ][0]
    want = (
        torch.nn.functional.interpolate(
            weights["visual.positional_embedding"][1:].T.reshape(1, -1, 4, 4),
            size=(6, 6),
            mode="bicubic",
        )[0]
        .flatten(1)
        .T
    )
    assert table.shape[0] in (17, 37)
    if (
        table.shape[0] == 37
    ):  # then by the stated rule: bicubic, no antialias; enlarging knows no antialias
        assert (table[1:] - want).abs().max() < 1e-5


def test_missing_and_surplus_tensors_are_errors(tmp_path):
    from safetensors.torch import save_file

    weights = write_clip(tmp_path, model_config())
    path = tmp_path / "open_clip_model.safetensors"
    gone = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    save_file({name: value for name, value in weights.items() if name != gone}, path)
    with pytest.raises(TTDError, match=gone):
        load_backbone(f"local-dir:{tmp_path}")
    save_file({**weights, "visual.surplus": torch.zeros(2)}, path)
    with pytest.raises(TTDError, match=r"visual\.surplus"):
        load_backbone(f"local-dir:{tmp_path}")


def test_a_file_cut_short_is_one_line(tmp_path):
    write_clip(tmp_path, model_config())
    path = tmp_path / "open_clip_model.safetensors"
    for size in (0, 5, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(TTDError, match="open_clip_model.safetensors") as error:
            load_backbone(f"local-dir:{tmp_path}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("arch", ["CLIPP", "", "ViT-B-77:openai", "clip "])
def test_unknown_names_list_the_choices(arch):
    with pytest.raises(TTDError) as error:
        load_backbone(arch)
    choices = ("CLIP", "MaskCLIP", "TCL", "tiny", "MODEL:PRETRAINED", "hf-hub:", "local-dir:")
    assert all(f" {word}" in str(error.value) for word in choices)


def test_one_registry_names_the_models():
    """What an error lists is what can be loaded, and short names stand for something."""
    from core.backbones.clip_loading import SHORT_NAMES

    assert list(BACKBONES) == ["CLIP", "MaskCLIP", "TCL", "tiny", "tiny-cls"]
    assert SHORT_NAMES.keys() == BACKBONES.keys() - {"TCL"}


def test_a_known_model_with_an_unknown_tag_lists_the_tags():
    with pytest.raises(TTDError, match="laion2b"):
        load_backbone("ViT-B-32:no_such_tag")
    with pytest.raises(TTDError, match="laion2b"):
        load_backbone("ViT-B-32")


def test_a_tag_brings_weights_activation_mean_and_std(tmp_path, monkeypatch):
    """A small model among open_clip's built-in ones, whose only tag is of OpenAI's kind."""
    from open_clip import factory, pretrained

    config = model_config()
    write_clip(tmp_path, {**config, "quick_gelu": True}, seed=4)
    weights = tmp_path / "open_clip_model.safetensors"
    tag = {"url": "nowhere", "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 4.0)}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ttd-small", config)
    monkeypatch.setitem(pretrained._PRETRAINED, "ttd-small", {"own": tag})
    monkeypatch.setattr(pretrained, "download_pretrained", lambda config: weights)
    tagged = load_backbone("ttd-small:own")
    assert_equals_open_clip(tmp_path, tagged)
    white = tagged.normalize(torch.ones(1, 3, 1, 1)).flatten()
    assert white.tolist() == pytest.approx([0.9, 0.4, 0.175])
    by_file = load_backbone(f"ttd-small:{weights}")  # no tag: the name's own activation, GELU
    images = random_images(1, 3, 32, 32)
    assert not torch.allclose(by_file.encode_image(images), tagged.encode_image(images), atol=1e-3)
    assert torch.equal(by_file.normalize(torch.ones(1, 3, 1, 1)).flatten(), white)


def test_a_known_model_with_a_missing_file(tmp_path):
    with pytest.raises(TTDError, match="nothing.pt"):
        load_backbone(f"ViT-B-32:{tmp_path / 'nothing.pt'}")
    with pytest.raises(TTDError, match="nothing.pt"):
        load_backbone("CLIP", weights=tmp_path / "nothing.pt")


def test_unknown_devices_and_types(tmp_path):
    write_clip(tmp_path, model_config())
    for arguments in ({"device": "toaster"}, {"dtype": "float31"}, {"device": "cuda:99"}):
        with pytest.raises(TTDError):
            load_backbone(f"local-dir:{tmp_path}", **arguments)


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


def test_checksum_of_the_shipped_model_is_stable():
    """`tiny` loads without a download and keeps its own constants."""

    folder = ROOT / "weights" / "tiny"
    if not (folder / "open_clip_model.safetensors").exists():
        pytest.skip("weights/tiny is not there yet")
    backbone = load_backbone("tiny")
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert backbone.checksum == load_backbone(f"local-dir:{folder}").checksum
    assert backbone.image_size == config["model_cfg"]["vision_cfg"]["image_size"]
    grey = torch.full((1, 3, 1, 1), 0.5)
    constants = config["preprocess_cfg"]
    want = [(0.5 - m) / s for m, s in zip(constants["mean"], constants["std"], strict=True)]
    assert torch.allclose(backbone.normalize(grey).flatten(), torch.tensor(want), atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "instead"),
    [
        ("PE-Spatial-B16-512:meta", "PE-Core"),
        ("ViT-B-16-SigLIP2-naflex:webli", "ViT-B-16-SigLIP2-256:webli"),
        ("dinov2_vitl14_reg", "dinotxt:"),
        ("dinov3-vitl16:lvd1689m", "dinotxt:"),
        ("google/tipsv2-b14", "tips:"),
    ],
)
def test_families_that_do_not_serve_say_what_does(arch, instead):
    with pytest.raises(TTDError, match="is not supported") as error:
        load_backbone(arch)
    assert instead in str(error.value) and "\n" not in str(error.value)
