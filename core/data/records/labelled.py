"""The folder of a labelled set: the pairs of the shards that it was made from."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import TTDError, UnreadableError
from ...utils.files import read_json
from .record import RecordSet
from .shards import open_shards

PROTOCOL = "_protocol.json"  # what label_shards.py writes first
FAILED = "_failed"  # folder of the shards that it could not label


def is_labelled(folder: Path) -> bool:
    """Whether label_shards.py wrote a folder."""
    return (folder / PROTOCOL).is_file()


def open_labelled(folder: Path) -> RecordSet:
    """The records of the shards that were labelled, in the order of their names.

    TTDError: a NAME.json is damaged, or names a shard of a bucket; UnreadableError: one is gone.
    """
    tars = [_shard_of(path) for path in sorted(folder.rglob("*.json")) if _is_own(folder, path)]
    if not tars:
        raise TTDError(f"{folder}: no labels of any shard in it; run label_shards.py to its end")
    root = Path(os.path.commonpath([tar.parent for tar in tars]))
    return open_shards(tars, root)


def _is_own(folder: Path, path: Path) -> bool:
    """Whether a file is the NAME.json of a shard that was labelled."""
    first = path.relative_to(folder).parts[0]
    return first not in (PROTOCOL, FAILED) and not first.startswith(".")


def _shard_of(path: Path) -> Path:
    shard = (read_json(path) or {}).get("shard")
    if not isinstance(shard, str):
        raise TTDError(f"{path}: damaged; delete it, its shard is labelled again")
    if "://" in shard:
        raise TTDError(f"{path}: its shard is {shard}; copy the shards here and name them")
    if not Path(shard).is_file():
        raise UnreadableError(f"{shard}: no such file, {path} was made from it; name the shards")
    return Path(shard)
