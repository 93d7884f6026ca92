"""A corpus of hostile files: what the disks and downloads of strangers hold, made on the spot."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import torch
from hostile_tars import png_bomb, stored, tars
from hostile_texts import LINES, YAMLS
from PIL import Image
from small_records import picture


class Canary:
    """Pickled, it touches a file where somebody executes it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def images(folder):
    """Files that are named like images."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n%%EOF\n"
    contents = {
        "empty.png": b"",
        "bomb.png": png_bomb(),
        "text.png": b"a login page, perhaps",
        "page.jpg": b"<!doctype html><html></html>",
        "exif.jpg": buffer.getvalue(),
        "eps.jpg": eps,
        "cut.png": picture()[:40],
        "a\u2028b.png": picture(),
        "a\x85b.png": picture(),
        "a\nb.png": picture(),
        "~nouser.png": picture(),
        "n" * 200 + ".png": picture(),
        "-rf.png": picture(),
        "\x1b[2J.png": picture(),
        "*.png": picture(),
        "{0..9}.png": picture(),
    }
    return {f"image_{name}": stored(folder / name, data) for name, data in contents.items()}


def not_utf8(folder):
    """A file whose name is no UTF-8, where the file system has such; {} where it has none."""
    try:
        return {
            "image_not_utf8": stored(
                Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")), picture()
            )
        }
    except (OSError, UnicodeError):
        return {}


def special(folder):
    """Pipes, devices, links that lead nowhere or round in circles, folders named like files."""
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jsonl").mkdir()
    (folder / "folder.tar").mkdir()
    (folder / "nothing").mkdir()
    links = {
        "to_pipe.jsonl": folder / "pipe.png",
        "to_pipe.tar": folder / "pipe.png",
        "to_device.png": "/dev/zero",
        "to_device.yaml": "/dev/zero",
        "dangling.jsonl": folder / "gone",
        "loop.jsonl": folder / "loop.jsonl",
        "loop_folder": folder,
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    names = [
        "pipe.png",
        "pipe.jsonl",
        "folder.jpg",
        "folder.jsonl",
        "folder.tar",
        "nothing",
        *links,
    ]
    return {f"special_{name}": folder / name for name in names}


def yamls(folder):
    """Descriptions and settings in YAML."""
    found = {}
    for name, text in YAMLS.items():
        content = text.replace("CANARY", str(folder / "executed"))
        found[f"yaml_{name}"] = stored(folder / f"{name}.yaml", content.encode())
    found["yaml_latin1"] = stored(folder / "latin1.yaml", b"images: caf\xe9\nclasses: [a]\n")
    return found


def lists(folder):
    """JSONL lists: each holds one good line beside what is wrong."""
    stored(folder / "good.png", picture())
    good = {"image": "good.png", "text": "a dog and a tree", "box": [0, 0, 2, 2]}
    found = {}
    for name, line in LINES.items():
        data = f"{json.dumps(good)}\n{line}\n".encode("utf-8", "surrogatepass")
        found[f"list_{name}"] = stored(folder / f"{name}.jsonl", data)
    whole = {
        "bom": b"\xef\xbb\xbf" + json.dumps(good).encode() + b"\n",
        "crlf": json.dumps(good).encode() + b"\r\n",
        "utf16": json.dumps(good).encode("utf-16"),
        "empty": b"",
        "blank": b"\n\n\n",
        "binary": bytes(range(256)) * 10,
    }
    for name, data in whole.items():
        found[f"list_{name}"] = stored(folder / f"{name}.jsonl", data)
    return found


def tensors(folder):
    """Weights that are none: bombs, tensors without data, other kinds of tensors, damage, code."""
    folder.mkdir(parents=True, exist_ok=True)
    canary = Canary(folder / "executed")
    found = {
        "pickle.pt": pickle.dumps({"state_dict": canary}),
        "pickle.pth": pickle.dumps(canary, protocol=0),
        "empty.safetensors": b"",
        "lfs.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        "page.pt": b"<!DOCTYPE html><html></html>",
        "hugeheader.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "header.safetensors": _safetensors(
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 99]}}
        ),
        "negative.safetensors": _safetensors(
            {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}
        ),
        "huge.safetensors": _safetensors(
            {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]}}
        ),
        "intkeys.safetensors": _safetensors(
            {"1": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        ),
        "metadata.safetensors": _safetensors({"__metadata__": {"ttd": "[" * 3000}}),
        "metalist.safetensors": _safetensors({"__metadata__": {"ttd": "[1]"}}),
    }
    files = {f"weights_{name}": stored(folder / name, data) for name, data in found.items()}
    kinds = {
        "meta": {"a": torch.empty(2, device="meta")},
        "sparse": {"a": torch.eye(2).to_sparse()},
        "quantised": {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
        "complex": {"a": torch.ones(2, dtype=torch.complex64)},
        "nan": {"a": torch.tensor([float("nan")])},
        "intkeys": {1: torch.ones(2), 2: torch.ones(2)},
        "expanded": {"a": torch.ones(1).expand(1 << 20, 1 << 20)},
        "list": [torch.ones(2)],
        "nested": {"model": {"model": {"a": torch.ones(2)}}},
        "strings": {"a": "b", "c": 5},
    }
    for name, content in kinds.items():
        path = folder / f"{name}.pt"
        torch.save(content, path)
        files[f"weights_{name}"] = path
    script = torch.jit.script(torch.nn.Linear(2, 2))
    script.save(str(folder / "script.pt"))
    files["weights_script"] = folder / "script.pt"
    files["weights_zipbomb"] = _zip_bomb(folder / "zipbomb.pt")
    files["weights_polyglot"] = _polyglot(folder / "polyglot.pt", canary)
    return files


def _safetensors(header):
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + bytes(8)


def _zip_bomb(path):
    """A small file that unpacks to a thousand times its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("m/data/0", bytes(1 << 26))
        archive.writestr("m/version", "3")
    return path


def _polyglot(path, canary):
    """A zip pickle with the members of TorchScript."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(canary, protocol=2))
        archive.writestr("m/constants.pkl", pickle.dumps(canary, protocol=2))
        archive.writestr("m/code/__torch__.py", "import os\n")
        archive.writestr("m/version", "3")
    return path


def folders(folder):
    """Folders of images and captions, of models and of adapters, each with something odd in it."""
    found = {}
    captions = {
        "a": b'{"text": "a cat", "tags": ["cat"]}',
        "deep": b"[" * 100_000,
        "nan": b'{"text": NaN}',
        "latin": b'{"text": "caf\xe9"}',
        "empty": b"",
        "huge": b'{"text": ' + b"9" * 5000 + b"}",
    }
    base = folder / "captions"
    for kind in ("json", "json_refined"):
        for name, data in captions.items():
            stored(base / kind / f"{name}.json", data)
            stored(base / "image" / f"{name}.png", picture())
    (base / "image" / "dir.png").mkdir()
    os.mkfifo(base / "image" / "pipe.png")
    os.mkfifo(base / "json" / "pipe.json")
    stored(base / "json" / "dir.json", captions["a"])
    stored(base / "image" / "sep\u2028.png", picture())
    stored(base / "json" / "sep\u2028.json", captions["a"])
    found["folder_captions"] = base
    executed = folder / "executed"
    code = f"open({str(executed)!r}, 'w')\n"
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}}
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    configs = {
        "code": json.dumps(config),
        "deep": "[" * 100_000,
        "empty": "",
        "null": "null",
        "nan": '{"model_cfg": {"embed_dim": NaN, "vision_cfg": {}, "text_cfg": {}}}',
    }
    for name, text in configs.items():
        base = folder / f"model_{name}"
        stored(base / "open_clip_config.json", text.encode())
        stored(base / "adapter_config.json", text.encode())
        stored(base / "tokenizer.py", code.encode())
        stored(base / "open_clip_model.safetensors", _safetensors({}))
        stored(base / "adapter_model.bin", pickle.dumps(Canary(executed)))
        found[f"folder_model_{name}"] = base
    return found


def corpus(folder):
    """{name: path} of every hostile file; `executed` below it appears if anything was run."""
    found = {}
    for make in (tars, images, not_utf8, special, yamls, lists, tensors, folders):
        found |= make(folder / make.__name__)
    return found


def executed(folder):
    """What a canary touched."""
    return list(folder.rglob("executed"))
