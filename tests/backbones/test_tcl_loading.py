"""TCL: the rules of loading its checkpoints; whatever does not fit is one line."""

from pathlib import Path

import oracle_tcl as oracle
import pytest
import torch
from small_clip import random_images, relative_error
from small_tcl import save, small_weights

from core.backbones import load_backbone
from core.errors import TTDError


def test_pamr_buffers_are_dropped(tmp_path, tcl):
    """Checkpoints written after an evaluation hold PAMR's kernels."""
    extra = {
        "pamr.aff_x.kernel": torch.ones(8, 1, 3, 3),
        "pamr.aff_m.kernel": torch.ones(8, 1, 3, 3),
        "pamr.aff_std.kernel": torch.ones(9, 1, 3, 3),
    }
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", {**small_weights(), **extra}))
    images = random_images(1, 3, 64, 64)
    assert torch.equal(backbone.encode_pixels(images), tcl.encode_pixels(images))


@pytest.mark.parametrize(
    "absent", [("tcli_loss.logit_scale",), ("tcli_loss.logit_scale", "tclf_loss.logit_scale")]
)
def test_loss_scales_may_be_absent(tmp_path, tcl, absent):
    weights = {name: value for name, value in small_weights().items() if name not in absent}
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    images = random_images(1, 3, 64, 64)
    assert torch.equal(backbone.encode_pixels(images), tcl.encode_pixels(images))


def test_one_error_lists_missing_and_unknown_keys(tmp_path):
    weights = dict(small_weights())
    gone = ["masker.sim2mask.w", "masker.image_encoder.decoder.decoder.net.1.conv2.gate.gate"]
    for name in gone:
        del weights[name]
    weights["masker.something.else"] = torch.zeros(1)
    weights["head.weight"] = torch.zeros(2, 2)
    with pytest.raises(TTDError) as error:
        load_backbone("TCL", weights=save(tmp_path / "tcl_odd.pth", weights))
    message = str(error.value)
    assert all(
        name in message for name in [*gone, "masker.something.else", "head.weight", "tcl_odd.pth"]
    )
    assert "pamr" not in message and "\n" not in message


def test_a_whole_masker_block_missing_is_an_error(tmp_path):
    weights = {
        name: value for name, value in small_weights().items() if "backbone.transformer" not in name
    }
    with pytest.raises(TTDError, match="resblocks"):
        load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))


def test_a_missing_decoder_is_an_error(tmp_path):
    weights = {
        name: value for name, value in small_weights().items() if ".decoder.net." not in name
    }
    with pytest.raises(TTDError, match="masker"):
        load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))


def test_part_of_a_frozen_tower_missing_is_no_random_start(tmp_path):
    """One frozen tensor gone: it is named, or comes from CLIP's own weights; it is never random."""
    weights = dict(small_weights())
    del weights["clip_image_encoder.clip_visual.transformer.resblocks.1.mlp.c_fc.weight"]
    with pytest.raises(TTDError):  # CLIP's ViT-B/16 could not fill this small tower either
        load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))


@pytest.mark.parametrize(
    "name",
    [
        "masker.image_encoder.decoder.image_proj.proj",
        "masker.sim2mask.w",
        "clip_text_encoder.ln_final.weight",
        "masker.image_encoder.decoder.decoder.net.0.conv.conv.weight",
    ],
)
def test_a_tensor_of_the_wrong_shape_is_named(tmp_path, name):
    weights = {**small_weights(), name: torch.zeros(3, 5)}
    with pytest.raises(TTDError) as error:
        load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    assert name in str(error.value)


class Evil:
    """Unpickling it writes a file: stands for a training checkpoint's config object."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_training_checkpoint_with_objects_is_read_without_running_them(tmp_path, tcl):
    marker = tmp_path / "was_unpickled"
    path = save(tmp_path / "checkpoint.pth", small_weights(), config=Evil(marker), step=7)
    read = load_backbone("TCL", weights=path, device="cpu").state_dict()
    assert not marker.exists()
    assert all(torch.equal(read[name], value) for name, value in tcl.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_broken_file_is_one_line(tmp_path, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(TTDError, match="broken.pth"):
        load_backbone("TCL", weights=path)


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"model": 3}, {"model": {}}, {"state": {"a": torch.zeros(1)}}]
)
def test_another_kind_of_file_is_one_line(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(TTDError, match="odd.pth"):
        load_backbone("TCL", weights=tmp_path / "odd.pth")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TTDError, match="nowhere.pth"):
        load_backbone("TCL", weights=tmp_path / "nowhere.pth")


@pytest.mark.parametrize("head", ["sclip", "vanilla", "maskclip-value"])
def test_no_other_head(small_tcl, head):
    with pytest.raises(TTDError, match="maskclip"):
        load_backbone("TCL", weights=small_tcl, head=head)


def test_the_default_head_may_be_named(small_tcl):
    assert load_backbone("TCL", weights=small_tcl, head="maskclip").head == "maskclip"


def test_dtype_and_gradient_state(small_tcl):
    backbone = load_backbone("TCL", weights=str(small_tcl), dtype=torch.float64)
    assert backbone.dtype == torch.float64 and not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    images = random_images(1, 3, 70, 50).double()
    got = backbone.encode_pixels(images)
    want = oracle.encode_pixels(oracle.double(small_weights()), images)
    assert got.dtype == torch.float64 and relative_error(got, want) < 1e-9
