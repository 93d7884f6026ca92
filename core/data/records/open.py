"""What an input is: a folder of captions, a JSONL list, or webdataset shards."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import TTDError
from ...utils.files import expanded, is_there
from .folders import open_folder
from .ids import checked
from .labelled import is_labelled, open_labelled
from .lists import LISTS, open_jsonl
from .record import RecordSet
from .shards import match_patterns, open_shards

FORMS = (
    "image/ID.jpg + json_refined/ID.json, image/ID.jpg + json/ID.json, "
    "images beside .txt or .json files, *.jsonl, or webdataset *.tar"
)

LONGEST = 4096  # of a path


def open_records(root: str | Path) -> RecordSet:
    """Find out what `root` is and list it: see `FORMS`.

    For shards also a pattern such as `s/{00000..00009}.tar`. Raises TTDError when there is nothing
    of these forms, which it lists. Ids are distinct and safe: see `checked`.
    """
    return checked(_open(root))


def _open(root: str | Path) -> RecordSet:
    name, path = str(root), expanded(root)
    if "\0" in name or (not is_there(path) and len(name) > LONGEST):
        raise TTDError(f"{name[:80]!r}: no such folder, file or pattern; check the path")
    if path.is_file():
        if path.suffix.lower() in LISTS:
            return open_jsonl(path)
        if path.suffix.lower() == ".tar":
            return open_shards([path], path.parent)
    if path.is_dir() and is_labelled(path):
        return open_labelled(path)
    if path.is_dir():
        return open_folder(path, FORMS)
    tars = match_patterns(str(path))
    if tars and all(tar.suffix.lower() == ".tar" for tar in tars):
        return open_shards(tars, Path(os.path.commonpath([tar.parent for tar in tars])))
    if path.exists() or tars:
        raise TTDError(f"{name}: not a list or shard of images with captions; wanted: {FORMS}")
    raise TTDError(f"{name}: no such folder, file or pattern; check the path")
