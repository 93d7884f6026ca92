"""Readers to fuzz: weights, adapters, models, tokenizers."""

import json
import pickle

import numpy as np
import torch
from fuzzed import Reader, stored
from small_adapter import tensors
from small_tips import CHARSMAP, sentencepiece_model

from core.backbones.lora.files import read_adapter
from core.backbones.lora.peft_config import read_peft_config
from core.backbones.weights import check_tensors, read_weights
from core.errors import TTDError
from core.utils.tensors.npz_files import read_npz

READERS: dict[str, Reader] = {}


def finite(state):
    for name, value in state.items():
        assert isinstance(name, str) and isinstance(value, torch.Tensor), name
        assert not value.is_floating_point() or torch.isfinite(value).all(), name
    return state


def read_state(path):
    return finite(read_weights(path))


STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2), "scale": torch.ones(())}


def safetensors_file(folder):
    from safetensors.torch import save_file

    save_file(STATE, folder / "m.safetensors")
    return folder / "m.safetensors"


READERS["safetensors"] = Reader(safetensors_file, read_state)


def torch_file(name, **options):
    def make(folder):
        torch.save({"state_dict": STATE, "epoch": 3, "note": "x"}, folder / name, **options)
        return folder / name

    return make


READERS["torch zip"] = Reader(torch_file("m.pt"), read_state)
READERS["torch legacy"] = Reader(
    torch_file("m.pt", _use_new_zipfile_serialization=False), read_state
)


def plain_pickle(protocol):
    return pickle.dumps({"state_dict": {"a": [1, 2.5, b"x", (None, True)]}}, protocol=protocol)


def read_as_data(path):
    from core.utils.tensors.torch_files import read_torch_file

    content = read_torch_file(path)
    if isinstance(content.data, dict):
        for value in content.data.values():
            try:
                content.tensors(value)
            except TTDError:
                continue
    return content


READERS["torch zip as data"] = Reader(torch_file("m.pt"), read_as_data)
READERS["torch legacy as data"] = Reader(
    torch_file("m.pt", _use_new_zipfile_serialization=False), read_as_data
)
for number in (0, 2, 4):
    READERS[f"pickle {number}"] = Reader(stored("m.pkl", plain_pickle(number)), read_as_data)


def adapter_state(path):
    state, info = read_adapter(path)
    assert info.alpha is None or info.alpha != 0
    return finite(state)


def adapter_file(folder):
    from safetensors.torch import save_file

    named = {f"base_model.model.{name}": value for name, value in tensors().items()}
    save_file(
        named, folder / "adapter_model.safetensors", {"ttd": json.dumps({"alpha": 6.0, "rank": 3})}
    )
    return folder / "adapter_model.safetensors"


READERS["adapter"] = Reader(adapter_file, adapter_state)
PEFT = {
    "peft_type": "LORA",
    "r": 3,
    "lora_alpha": 6,
    "bias": "none",
    "use_rslora": True,
    "target_modules": ["v_proj"],
    "init_lora_weights": True,
    "rank_pattern": {},
    "use_dora": False,
}


def peft_folder(folder):
    from safetensors.torch import save_file

    named = {f"base_model.model.{name}": value for name, value in tensors().items()}
    save_file(named, folder / "adapter_model.safetensors")
    return stored("adapter_config.json", json.dumps(PEFT).encode())(folder)


READERS["adapter config"] = Reader(
    peft_folder, lambda path: (adapter_state(path.parent), read_peft_config(path)), PEFT
)


def model_folder(folder):
    from small_clip import write_clip

    write_clip(folder, MODEL["model_cfg"], ttd=MODEL["ttd"])
    return folder / "open_clip_config.json"


def read_model(path):
    from core.backbones import load_backbone

    return load_backbone(f"local-dir:{path.parent}", device="cpu")


MODEL = {
    "model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": 16,
            "patch_size": 8,
            "width": 16,
            "head_width": 8,
            "layers": 2,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {
        "size": [16, 16],
        "mode": "RGB",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
    "ttd": {"mask_scale": 8.0, "mask_bias": -0.35, "head": "maskclip"},
}
READERS["model config"] = Reader(model_folder, read_model, MODEL)


def model_weights(folder):
    model_folder(folder)
    return folder / "open_clip_model.safetensors"


READERS["model weights"] = Reader(model_weights, read_model)


def tokenizer_folder(folder):
    from core.utils.shipped import shipped

    model_folder(folder)
    return stored("bpe.txt.gz", shipped("weights/tiny/bpe.txt.gz").read_bytes())(folder)


def read_tokenizer(path):
    from core.backbones.tokenizers.openclip import Tokenizer

    return Tokenizer(f"local-dir:{path.parent}")(["a cat"])


READERS["tokenizer merges"] = Reader(tokenizer_folder, read_tokenizer)


def npz_file(folder):
    np.savez(folder / "m.npz", **{name: value.numpy() for name, value in STATE.items()})
    return folder / "m.npz"


def read_npz_state(path):
    state = read_npz(path)
    check_tensors(state, path)
    return finite(state)


READERS["npz"] = Reader(npz_file, read_npz_state)


def read_pieces(path):
    from core.backbones.tokenizers.sentencepiece import SentencePieceTokenizer

    return SentencePieceTokenizer(path, 16, "its page")(["a dog\tcat"])


READERS["sentencepiece"] = Reader(
    stored("tokenizer.model", sentencepiece_model(charsmap=CHARSMAP)), read_pieces
)
