"""Weight files from strangers: what they are, what is read of them, and that nothing runs."""

import io
import json
import os
import pickle
import struct
import subprocess
import zipfile
from argparse import Namespace

import pytest
import torch
from paths import ROOT
from safetensors.torch import save, save_file
from small_clip import model_config, write_clip, write_config

from core.backbones import load_backbone
from core.backbones.openclip_config import check_config
from core.backbones.weights import check_tensors, read_checkpoint, read_weights
from core.errors import TTDError
from core.utils.tensors.file_kinds import file_kind

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(())}


class Touch:
    """An object whose unpickling would make a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def torch_zip(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def with_members(data: bytes, names) -> bytes:
    """A torch zip with further members, as a polyglot would have them."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    top = source.namelist()[0].partition("/")[0]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for info in source.infolist():
            archive.writestr(info, source.read(info))
        for name in names:
            archive.writestr(f"{top}/{name}", b"\x80\x02]q\x00.")
    return target.getvalue()


def same(state, expected=STATE):
    return state.keys() == expected.keys() and all(
        torch.equal(state[name], value) for name, value in expected.items()
    )


@pytest.mark.parametrize("members", [(), ("code/x.py",), ("code/x.py", "constants.pkl")])
def test_pickled_code_never_runs(tmp_path, members):
    """A zip pickle that claims to be TorchScript by its members, and one that does not."""
    marker, path = tmp_path / "ran", tmp_path / "weights.pt"
    content = {"model": STATE, "config": Touch(marker)}
    path.write_bytes(with_members(torch_zip(content), members))
    try:
        state = read_weights(path)
        assert same(state)
    except TTDError as error:
        assert "constants.pkl" in members and "\n" not in str(error)
    assert not marker.exists()


def test_a_legacy_pickle_never_runs(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "weights.bin"
    torch.save(
        {"state_dict": STATE, "x": Touch(marker)}, path, _use_new_zipfile_serialization=False
    )
    assert same(read_weights(path)) and not marker.exists()
    path.write_bytes(pickle.dumps(Touch(marker)))
    with pytest.raises(TTDError):
        read_weights(path)
    assert not marker.exists()


def test_no_file_of_the_repository_unpickles_fully():
    words = "weights_only" + "=False"
    found = subprocess.run(
        ["git", "grep", "-lE", f"{words}|allow_pickle" + "=True"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE},
        {"model": STATE, "optimizer": {"step": 3}},
        {"model_state_dict": {f"module.{name}": value for name, value in STATE.items()}},
        {"epoch": 3, "state_dict": {f"_orig_mod.module.{n}": v for n, v in STATE.items()}},
        {"model": STATE, "args": Namespace(lr=0.1), "names": ["a", Namespace()]},
    ],
)
def test_checkpoints_of_other_tools(tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    assert same(read_weights(path))


def test_the_content_tells_what_a_file_is_not_its_name(tmp_path):
    path = tmp_path / "weights.pt"
    save_file(STATE, path)
    assert file_kind(path) == "safetensors" and same(read_weights(path))
    path = tmp_path / "weights.safetensors"
    torch.save(STATE, path)
    assert file_kind(path) == "torch" and same(read_weights(path))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 5\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (LFS, "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b'{"error": "not found"}', "is text"),
        (b"Access denied", "is text"),
        (b"\x1f\x8b\x08" + b"0" * 50, "packed by gzip"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "an image"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (save(STATE)[:-4], "not a readable weight file"),
        (torch_zip(STATE)[:200], "not a readable weight file"),
        (struct.pack("<Q", 2**62) + b"{}", "not a readable pickle"),
        (b"\x01\xff\xfe" * 60, "not a readable"),
    ],
)
def test_what_is_no_weights_is_called_what_it_is(tmp_path, data, said):
    path = tmp_path / "w.pt"
    path.write_bytes(data)
    with pytest.raises(TTDError, match=said) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_zip_that_torch_did_not_write(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("folder/readme.txt", "x")
    with pytest.raises(TTDError, match="zip archive that torch did not write"):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.tensor([1.0, float("nan")]), "not finite"),
        (torch.tensor([float("inf")]), "not finite"),
        (torch.tensor([1, 2]), "holds int64"),
        (torch.tensor([1 + 1j]), "holds complex64"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.empty(2, device="meta"), "without data"),
    ],
)
def test_tensors_that_are_no_weights(tensor, said):
    with pytest.raises(TTDError, match=said):
        check_tensors({"ok": torch.ones(2), "x": tensor}, "w.pt")
    check_tensors({"ok": torch.ones(2), "text.position_ids": torch.arange(3)}, "w.pt")


def test_a_base_with_a_nan_is_refused(tmp_path):
    state = write_clip(tmp_path, model_config())
    state["visual.conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(TTDError, match="visual.conv1.weight is not finite"):
        load_backbone(f"local-dir:{tmp_path}", device="cpu")


def changed(section, **values):
    config = {"model_cfg": model_config()}
    target = config["model_cfg"] if section is None else config["model_cfg"][section]
    target.update(values)
    return config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed("text_cfg", tokenizer_kwargs={"trust_remote_code": True}), "tokenizer_kwargs"),
        (changed("text_cfg", tokenizer_kwargs=[1]), "tokenizer_kwargs"),
        (changed("text_cfg", hf_model_name="org/evil"), "hf_model_name"),
        (changed("vision_cfg", timm_model_pretrained=True), "timm_model_pretrained"),
        (changed("vision_cfg", auto_map="x"), "unknown auto_map"),
        (changed(None, trust_remote_code=True), "unknown trust_remote_code"),
        (changed("vision_cfg", layers=10**9), "beyond any model"),
        (changed("vision_cfg", width=float("nan")), "beyond any model"),
        (changed("text_cfg", vocab_size=10**15), "beyond any model"),
        (changed("vision_cfg", act_kwargs={"out": "x"}), "options in act_kwargs"),
        ({"model_cfg": {"embed_dim": 4}}, "vision_cfg is missing"),
        ({"preprocess_cfg": {}}, "no `model_cfg`"),
        ([1], "no `model_cfg`"),
    ],
)
def test_configs_of_strangers(tmp_path, config, said):
    with pytest.raises(TTDError, match=said):
        check_config(config, "there")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes(save(STATE))
    with pytest.raises(TTDError) as caught:
        load_backbone(f"local-dir:{tmp_path}", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_the_folder_does_not_run(tmp_path, monkeypatch):
    """The option is refused, and its absence is passed on as a refusal too."""
    seen = {}
    config = model_config(text={"hf_tokenizer_name": "org/name", "vocab_size": 49408})
    write_clip(tmp_path, config, seed=1)

    def tokenizer(name, **options):
        seen.update(options)
        return lambda texts: torch.ones(len(texts), 77, dtype=torch.long)

    monkeypatch.setattr("open_clip.get_tokenizer", tokenizer)
    load_backbone(f"local-dir:{tmp_path}", device="cpu").tokenize(["a"])
    assert seen == {"trust_remote_code": False}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_cfg": ' * 3000])
def test_damaged_configs(tmp_path, text):
    write_config(tmp_path, model_config())
    (tmp_path / "open_clip_config.json").write_text(text)
    (tmp_path / "open_clip_model.safetensors").write_bytes(save(STATE))
    with pytest.raises(TTDError):
        load_backbone(f"local-dir:{tmp_path}", device="cpu")


def test_every_config_that_ships_with_open_clip_and_is_a_vit_passes():
    import open_clip

    passed = 0
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        text, vision = config["text_cfg"], config["vision_cfg"]
        plain = isinstance(vision.get("layers", 12), int) and not text.get("hf_model_name")
        if plain and not config.get("multimodal_cfg"):
            check_config({"model_cfg": config}, name)
            passed += 1
    assert passed > 40


def test_what_is_no_weight_file_is_told_before_a_model_is_built(tmp_path, monkeypatch):
    from core.backbones import clip_loading

    path = tmp_path / "model.pt"
    path.write_bytes(b"<!DOCTYPE html><html><body>Sign in</body></html>")
    monkeypatch.setattr(clip_loading, "_skeleton", lambda *_: pytest.fail("a model was built"))
    with pytest.raises(TTDError, match="web page"):
        clip_loading.load_openclip_model(f"ViT-B-32:{path}", None)
