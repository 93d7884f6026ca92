"""Tokenizers of Hugging Face's: from a model's folder, beside its weights, or missing."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from small_clip import (
    model_config,
    random_images,
    random_weights,
    reference_model,
    relative_error,
    write_clip,
)
from small_siglip import write_siglip
from small_tokenizer import write_tokenizer

from core.backbones import load_backbone
from core.errors import TTDError

A, DOG, CAT = 4, 5, 6  # ids of the small vocabulary
SIGLIP2, METACLIP2 = "ViT-B-32-SigLIP2-256", "ViT-H-14-worldwide-quickgelu"


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("core.backbones.weights._reachable", lambda url: False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def padded(*ids: int, length: int = 16) -> list[int]:
    return [*ids, *[0] * (length - len(ids))]


def test_the_files_in_a_models_folder(tmp_path):
    write_tokenizer(write_siglip(tmp_path))
    rows = load_backbone(f"local-dir:{tmp_path}").tokenize(["A dog", "cat"])
    assert rows.tolist() == [padded(A, DOG, 1), padded(CAT, 1)]


def test_texts_are_padded_at_their_end_whatever_the_class_does(tmp_path):
    """transformers' Gemma pads at the start where the config says nothing."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    write_tokenizer(write_siglip(tmp_path), config={**config, "padding_side": "left"})
    rows = load_backbone(f"local-dir:{tmp_path}").tokenize(["cat"])
    assert rows.tolist() == [padded(CAT, 1)]


def small_builtin(monkeypatch, tmp_path, **text):
    """A built-in model of open_clip's with a tokenizer on the Hub, and a file of its weights."""
    own = {"hf_tokenizer_name": "org/words", "context_length": 16, **text}
    config = model_config(text=own)
    added = {**open_clip.factory._MODEL_CONFIGS, "ViT-small-hub": config}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", added)
    model = open_clip.create_model("ViT-small-hub", pretrained_text=False)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    path = tmp_path / "weights" / "small.safetensors"
    path.parent.mkdir()
    save_file(random_weights(shapes, 0), path)
    return path


def test_the_files_beside_the_weights(monkeypatch, tmp_path):
    """With open_clip's cleaning of the model: no punctuation, lower case."""
    clean = {"clean": "canonicalize"}
    path = small_builtin(monkeypatch, tmp_path, tokenizer_kwargs=clean)
    plain = load_backbone(f"ViT-small-hub:{path}")
    before = plain.tokenizer_key
    with pytest.raises(TTDError) as error:
        plain.tokenize(["cat"])
    said = str(error.value)
    assert "tokenizer.json" in said and "huggingface.co/org/words" in said
    assert str(path.parent) in said and "\n" not in said
    write_tokenizer(path.parent)
    for backbone in (
        load_backbone(f"ViT-small-hub:{path}"),
        load_backbone("ViT-small-hub", weights=path),
    ):
        assert backbone.tokenize(["A cat!!"]).tolist() == [padded(A, CAT, 1)]
        assert backbone.tokenizer_key != before
        assert torch.isfinite(backbone.encode_text(["a dog"])).all()


def test_an_end_token_that_is_read_must_be_there(monkeypatch, tmp_path):
    """MetaCLIP 2 reads the text at token 2; without one it would read the first token."""
    path = small_builtin(monkeypatch, tmp_path, pool_type="eos", eos_id=2)
    write_tokenizer(path.parent)
    with pytest.raises(TTDError, match="without the token 2"):
        load_backbone(f"ViT-small-hub:{path}").tokenize(["cat"])


def test_the_right_end_token_passes(monkeypatch, tmp_path):
    path = small_builtin(monkeypatch, tmp_path, pool_type="eos", eos_id=1)
    write_tokenizer(path.parent)
    assert load_backbone(f"ViT-small-hub:{path}").tokenize(["cat"])[0, 1] == 1


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("tokenizer.json", "{", "could not be read"),
        ("tokenizer.json", "", "could not be read"),
        ("tokenizer_config.json", "{}", "cannot encode texts"),  # no padding token
    ],
)
def test_damaged_files(tmp_path, file, text, words):
    write_tokenizer(write_siglip(tmp_path))
    (tmp_path / file).write_text(text)
    with pytest.raises(TTDError, match=words) as error:
        load_backbone(f"local-dir:{tmp_path}").tokenize(["cat"])
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_what_a_folder_says_runs_nothing(tmp_path):
    """A tokenizer_config.json that names code of its repository."""
    auto = {"AutoTokenizer": ["own.Tokenizer", None]}
    config = {"tokenizer_class": "Own", "pad_token": "<pad>", "auto_map": auto}
    write_tokenizer(write_siglip(tmp_path), config=config)
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Tokenizer: pass\n")
    try:
        load_backbone(f"local-dir:{tmp_path}").tokenize(["cat"])
    except TTDError as error:
        assert "\n" not in str(error)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "source"), [(SIGLIP2, "timm/ViT-B-32-SigLIP2-256"), (METACLIP2, "facebook/xlm-v-base")]
)
def test_the_official_ones_name_their_files(name, source):
    from core.backbones.tokenizers.openclip import Tokenizer

    with pytest.raises(TTDError) as error:
        Tokenizer(name)(["a dog"])
    said = str(error.value)
    assert f"huggingface.co/{source}" in said and "tokenizer.json" in said and "\n" not in said


# --- the towers


@pytest.mark.slow
@pytest.mark.parametrize("name", [SIGLIP2, METACLIP2])
def test_official_shapes(tmp_path, name):
    """All sizes but the vocabulary's and the number of open_clip's blocks, which are alike."""
    config = json.loads(json.dumps(open_clip.get_model_config(name)))
    config["text_cfg"] |= {"vocab_size": 128, "layers": 2}
    if name == METACLIP2:
        config["vision_cfg"]["layers"] = 2
        config["text_cfg"]["eos_id"] = 127
    write_clip(tmp_path, config)
    backbone, reference = load_backbone(f"local-dir:{tmp_path}"), reference_model(tmp_path)
    side = backbone.image_size
    images, rows = (
        random_images(1, 3, side, side),
        torch.randint(2, 127, (2, config["text_cfg"]["context_length"])),
    )
    rows[:, 20] = 127
    with torch.no_grad():
        got, want = backbone.encode_image(images), reference.encode_image(images)
        assert relative_error(got, want) < 1e-4
        got, want = backbone.encode_tokens(rows), reference.encode_text(rows)
        assert relative_error(got, want) < 1e-4
        pixels = backbone.encode_pixels(images)
    assert pixels.shape == (1, config["embed_dim"], *[side // backbone.patch] * 2)
