"""What a file really is, by its first bytes: what is named like weights need not hold any.

kind = file_kind(path)          # "safetensors", "torch", "torchscript", ... or "unknown"
NOT_WEIGHTS[kind]               # what to tell whoever took it for weights
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

HEAD = 1024  # bytes that are looked at
MOST_HEADER = 100_000_000  # bytes of a safetensors header, as its own library allows
# Kinds that hold no weights, and how to mend that.
NOT_WEIGHTS = {
    "empty": "is empty: download or copy it again",
    "lfs": "is a Git LFS pointer, not the file itself: run `git lfs pull` where it came from, or "
    "download the file from its page",
    "page": "is a web page (an error or a login page saved under this name): download the file "
    "itself",
    "text": "is text, not weights (an error message saved under this name?): download the file "
    "itself",
    "gzip": "is packed by gzip: unpack it first (gunzip, tar xzf)",
    "tar": "is a tar archive: unpack it first (tar xf)",
    "zip": "is a zip archive that torch did not write: unpack it and name the weight file in it",
    "hdf5": "is an HDF5 file (Keras): convert it to safetensors first",
    "gguf": "is a GGUF file: take the safetensors or torch file of the model instead",
    "image": "is an image, not weights: check the path",
}
MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x89HDF", "hdf5"),
    (b"GGUF", "gguf"),
    (b"\x89PNG", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"version https://git-lfs", "lfs"),
)
PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml")


def file_kind(path: Path) -> str:
    """One word for what a file is, whatever its name ends in.

    "safetensors", "torchscript" (a compiled model), "torch" (torch.save's zip), "pickle" (its
    legacy form), "npz" (numpy's arrays), a key of `NOT_WEIGHTS`, or "unknown". Reads the first
    bytes, and of a zip the list of its members. Errors: OSError when it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "empty"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    if _is_safetensors(head, path.stat().st_size):
        return "safetensors"
    if head[257:262] == b"ustar":
        return "tar"
    if head[:1] == b"\x80":
        return "pickle"
    return _text_kind(head)


def _zip_kind(path: Path) -> str:
    """torch's own test of TorchScript is the member constants.pkl, not a folder called code."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error):
        return "torch"  # cut short: its reader says so
    if members and all(name.endswith(".npy") for name in members):
        return "npz"
    names = {name.partition("/")[2] for name in members}
    if "constants.pkl" in names:
        return "torchscript"
    return "torch" if "data.pkl" in names else "zip"


def _is_safetensors(head: bytes, size: int) -> bool:
    """Eight bytes of length, then a JSON object of that length."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return bool(2 <= length <= min(MOST_HEADER, size - 8))


def _text_kind(head: bytes) -> str:
    start = head.lstrip().lower()
    if start.startswith(PAGES):
        return "page"
    try:
        head[: HEAD - 4].decode("utf-8")
    except UnicodeDecodeError:
        return "unknown"
    return "unknown" if b"\x00" in head else "text"
