"""CC3M and CC12M as img2dataset leaves them (webdataset shards, or folders of jpg + txt + json) to training pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from ...errors import TTDError
from ..records import Record, RecordSet, open_records
from .runner import Job, Plan


def caption_plan(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    """Images to ROOT/cc3m/SPLIT/image/ID.jpg, captions {"text": ...} to ROOT/cc3m/SPLIT/json/ID.json.

    split: `train` or `val` (written to `validation`). Records that cannot be used are left out.
    """
    folder = {"val": "validation"}.get(split, split)
    if folder not in ("train", "validation"):
        raise TTDError(f"--split {split}: {name} has train and val")
    records = open_records(source)
    out = root / name.lower() / folder
    return Plan(
        out,
        {"set": name, "split": split, "made_from": "img2dataset"},
        f"{name}: {records.description}",
        _jobs(records),
        records.count,
    )


def _jobs(records: RecordSet) -> Iterator[Job]:
    for item in records.iterate():
        if isinstance(item, Record):
            key = flat_id(item.id)
            content = partial(_caption, item.text)
            yield Job(
                key, item.image, f"image/{key}{_ending(item.name)}", f"json/{key}.json", content
            )
        else:
            yield Job(item.id, Path(), "", "", problem=item.reason)


def flat_id(name: str) -> str:
    """An id without folders: img2dataset's 00012/000120007 is unique as 000120007; others keep their folder's name.

    >>> flat_id("00012/000120007"), flat_id("a/b")
    ('000120007', 'a_b')
    """
    path = PurePosixPath(name)
    own = path.name.startswith(path.parent.name) and path.name[:1].isdigit()
    return path.name if own else "_".join(part for part in path.parts if part != "/")


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _caption(text: str) -> bytes:
    return (json.dumps({"text": text}, ensure_ascii=False) + "\n").encode()
