"""A corpus of hostile files: what strangers' disks, archives and downloads hold, made on the spot."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import torch
from PIL import Image
from small_records import picture


class Canary:
    """Pickled, it touches a file where somebody executes it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def member(name, data=b"", **fields):
    """A header of a tar with its data, whatever the fields say."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % 512)


def resized(header, field):
    """A tar header with other bytes in its size field, and the right checksum."""
    header = bytearray(header)
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


def pair(name):
    """An image and its caption in a tar, in order."""
    return member(f"{name}.png", picture(3)) + member(f"{name}.txt", b"a cat")


def tars(folder):
    """Archives: each holds one good record beside what is wrong with it."""
    good, end, png = pair("good"), bytes(1024), picture(9)
    linked = member("l.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    hard = member("h.png", type=tarfile.LNKTYPE, linkname="good.png")
    huge = resized(member("a.png", png), b"77777777777\0")
    base256 = resized(member("a.png", png), b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7)
    negative = resized(member("a.png", png), b"\xff" * 11 + b"\xf0")
    odd = resized(member("a.png", png), b"-0000000001\0")
    sparse = member("s.png", b"", type=tarfile.GNUTYPE_SPARSE)
    contents = {
        "beyond": good + huge,
        "base256": good + base256,
        "negative": good + negative,
        "minus": good + odd,
        "sparse": good + sparse + member("s.txt", b"a dog"),
        "links": good + linked + member("l.txt", b"x") + hard + member("h.txt", b"x"),
        "absolute": good + pair("/etc/x") + pair("../../x") + pair("a/../../b"),
        "device": good + member("d.png", type=tarfile.CHRTYPE) + member("d.txt", b"x"),
        "names": good + pair("a\u2028b") + pair("\udcff") + pair("n" * 90) + pair("e\x1b[2J"),
        "twice": good + good + pair("."),
        "notext": good + member("a.png", png) + member("a.txt", b"\xff\xfe\0"),
        "bomb": good + member("a.png", png_bomb()) + member("a.txt", b"a bomb"),
        "empty": b"",
        "zeros": bytes(10240),
        "gzipped": gzip.compress(good + end),
        "pax": good
        + member("p", b"30 size=99999999999999999999\n", type=tarfile.XHDTYPE)
        + pair("z"),
    }
    return {
        f"tar_{name}": _file(folder / f"{name}.tar", data + end) for name, data in contents.items()
    }


def png_bomb(side=60000):
    """A few hundred bytes that declare side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        check = struct.pack(">I", zlib.crc32(name + body))
        data += struct.pack(">I", len(body)) + name + body + check
    return data


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
    return {f"image_{name}": _file(folder / name, data) for name, data in contents.items()}


def not_utf8(folder):
    """A file whose name is no UTF-8, where the file system has such; {} where it has none."""
    try:
        return {
            "image_not_utf8": _file(
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


YAMLS = {
    "date": "images: 2001-01-01\nclasses: [2001-01-01]\n",
    "baddate": "images: images\nclasses: [a]\nbackground: 2001-99-99\n",
    "huge": "images: images\nclasses: [a]\nignore: " + "9" * 5000 + "\n",
    "float": "images: images\nclasses: [a, b]\nbg: 1e999\n",
    "sexagesimal": "images: images\nclasses: [1:30, a]\nignore: 190:20:30\n",
    "deep": "[" * 3000,
    "deepmap": "a: " * 3000,
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "selfalias": "classes: &a [*a]\nimages: images\n",
    "intkeys": "1: 2\n3: {4: 5}\n",
    "listkeys": "? [a, b]\n: c\n",
    "twice": "images: images\nimages: other\nclasses: [a]\n",
    "python": "!!python/object/apply:os.system ['touch CANARY']\n",
    "binary": "images: !!binary aGVsbG8=\nclasses: [a]\n",
    "bom": "\ufeffimages: images\nclasses: [a]\n",
    "nul": "images: images\0\nclasses: [a]\n",
    "merge": "<<: [1, 2]\nimages: images\nclasses: [a]\n",
    "list": "- a\n- b\n",
    "scalar": "5\n",
    "nan": "images: images\nclasses: [.nan, a]\nbg: .nan\n",
    "manyclasses": "images: images\nclasses: [" + ", ".join(f"c{i}" for i in range(300)) + "]\n",
    "escape": 'images: "a\\x1b[2J\\nb"\nclasses: [a]\n',
}


def yamls(folder):
    """Descriptions and settings in YAML."""
    found = {}
    for name, text in YAMLS.items():
        content = text.replace("CANARY", str(folder / "executed"))
        found[f"yaml_{name}"] = _file(folder / f"{name}.yaml", content.encode())
    found["yaml_latin1"] = _file(folder / "latin1.yaml", b"images: caf\xe9\nclasses: [a]\n")
    return found


LINES = {
    "surrogate": '{"image": "good.png", "text": "\\ud800 cat", "id": "a"}',
    "surrogateid": '{"image": "good.png", "text": "a cat", "id": "\\udcff"}',
    "nul": '{"image": "a\\u0000.png", "text": "a cat"}',
    "separator": '{"image": "a\u2028b.png", "text": "a \u2028 \x85 cat", "id": "a\u2028b"}',
    "overlong": json.dumps({"image": "x" * 5000 + ".png", "text": "a cat"}),
    "deepname": json.dumps({"image": "y/" * 2500 + "a.png", "text": "a cat"}),
    "longid": json.dumps({"image": "good.png", "text": "a cat", "id": "x" * 5000}),
    "outside": json.dumps({"image": "../../../../etc/passwd", "text": "a cat", "id": "../../../x"}),
    "nouser": json.dumps({"image": "~nouser/a.png", "text": "a cat"}),
    "pipe": json.dumps({"image": "../special/pipe.png", "text": "a cat"}),
    "device": json.dumps({"image": "/dev/zero", "text": "a cat"}),
    "folder": json.dumps({"image": "../special/folder.jpg", "text": "a cat"}),
    "nan": '{"image": "good.png", "text": NaN, "tags": Infinity}',
    "hugeint": '{"image": "good.png", "text": "a cat", "id": ' + "9" * 5000 + "}",
    "deep": '{"image": "good.png", "text": ' + "[" * 100_000,
    "twice": '{"image": "good.png", "image": "other.png", "text": "a cat"}',
    "types": '{"image": ["good.png"], "text": {"a": 1}, "tags": "cat"}',
    "emptytext": '{"image": "good.png", "text": "\u200b \u2028"}',
    "longtext": json.dumps({"image": "good.png", "text": "cat " * 20_000}),
    "oneword": json.dumps({"image": "good.png", "text": "x" * 100_000}),
    "manytags": json.dumps({"image": "good.png", "text": "a cat", "tags": ["cat"] * 1000}),
    "escape": '{"image": "good.png", "text": "a \\u001b[2J cat", "id": "\\u001b[2J"}',
    "notobject": "[1, 2]",
    "notjson": "{image: a}",
    "bidi": '{"image": "good.png", "text": "\u202ea cat", "id": "\u202e"}',
    "box": '{"image": "good.png", "text": "a cat", "box": [0, 0, 1e400, NaN]}',
    "boxes": '{"image": "good.png", "text": "a cat", "box": [9, 9, 1, 1]}',
}


def lists(folder):
    """JSONL lists: each holds one good line beside what is wrong."""
    _file(folder / "good.png", picture())
    good = {"image": "good.png", "text": "a dog and a tree", "box": [0, 0, 2, 2]}
    found = {}
    for name, line in LINES.items():
        data = f"{json.dumps(good)}\n{line}\n".encode("utf-8", "surrogatepass")
        found[f"list_{name}"] = _file(folder / f"{name}.jsonl", data)
    whole = {
        "bom": b"\xef\xbb\xbf" + json.dumps(good).encode() + b"\n",
        "crlf": json.dumps(good).encode() + b"\r\n",
        "utf16": json.dumps(good).encode("utf-16"),
        "empty": b"",
        "blank": b"\n\n\n",
        "binary": bytes(range(256)) * 10,
    }
    for name, data in whole.items():
        found[f"list_{name}"] = _file(folder / f"{name}.jsonl", data)
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
    files = {f"weights_{name}": _file(folder / name, data) for name, data in found.items()}
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
    """Half a megabyte that unpacks to 512."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("m/data/0", bytes(1 << 29))
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
            _file(base / kind / f"{name}.json", data)
            _file(base / "image" / f"{name}.png", picture())
    (base / "image" / "dir.png").mkdir()
    os.mkfifo(base / "image" / "pipe.png")
    os.mkfifo(base / "json" / "pipe.json")
    _file(base / "json" / "dir.json", captions["a"])
    _file(base / "image" / "sep\u2028.png", picture())
    _file(base / "json" / "sep\u2028.json", captions["a"])
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
        _file(base / "open_clip_config.json", text.encode())
        _file(base / "adapter_config.json", text.encode())
        _file(base / "tokenizer.py", code.encode())
        _file(base / "open_clip_model.safetensors", _safetensors({}))
        _file(base / "adapter_model.bin", pickle.dumps(Canary(executed)))
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


def _file(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# Strings for options that name something, paths or not.
STRINGS = (
    *("", " ", ".", "..", "/", "~nouser", "~nouser/x", "-", "a\nb", "\u2028", "\x85", "\udcff"),
    *("x" * 300, "x" * 5000, "y/" * 2500, "{0..99999999}.tar", "{a,b}{0..9}{0..9}.tar", "**", "[", "*"),
    *("/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/self/fd", "hf-hub:../../x", "local-dir:"),
    *("local-dir:/", "hf-hub:", "null", "nan", "1", "%s", "{}", "\x1b[2J", "a+b", "+", "a=b", "=", "a.b=1"),
    *("ViT-B-32:/dev/zero", "ViT-B-32:", ":", "cuda:99", "meta", "cpu:5", "cuda:-1", "a@b@c"),
    *("steps=9999999999999999999999", "lora={}", "lora=[[[[", "steps=2001-01-01", "=5", "a.b.c.d=1"),
    *("{x}=&a [*a]", "batch=.nan", "lr=.inf", "lora.rank=-1", "lr=!!python/name:os.system"),
)  # fmt: skip
WHOLE = ("0", "-1", "9" * 30, "1e9", "nan", "", "x", "٣", "0x10", "1_0", "２")
FRACTIONS = ("0", "-1", "nan", "inf", "-inf", "1e400", "1e-400", "", "x", "1e308")
