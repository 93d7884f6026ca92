"""CC3M and CC12M as img2dataset leaves them to training pairs.

img2dataset makes webdataset shards, or folders of jpg + txt + json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from ...errors import TTDError
from ...utils.files import safe_id
from ..records import RecordSet, Skipped, open_records
from ..records.ids import Distinct
from .runner import Job, Plan


def caption_plan(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    """Images to ROOT/cc3m/SPLIT/image/ID.jpg, captions to ROOT/cc3m/SPLIT/json/ID.json.

    split: `train` or `val` (written to `validation`). Records that cannot be used are left out.
    Raises TTDError for another split and when `source` holds no images with captions.
    """
    folder = {"val": "validation"}.get(split, split)
    if folder not in ("train", "validation"):
        raise TTDError(f"--split {split}: {name} has train and val")
    records = open_records(source)
    return Plan(
        out=root / name.lower() / folder,
        identity={"set": name, "split": split, "made_from": "img2dataset"},
        about=f"{name}: {records.description}",
        jobs=_jobs(records),
        count=records.count,
    )


def _jobs(records: RecordSet) -> Iterator[Job]:
    distinct = Distinct()  # again: ids of several folders may become one without their folders
    for item in records.iterate():
        if isinstance(item, Skipped):
            yield Job(item.id, Path(), "", "", problem=item.reason, retry=item.retry)
            continue
        key, ending = distinct(flat_id(item.id)), PurePosixPath(item.name).suffix.lower()
        content = partial(_caption, item.text)
        yield Job(key, item.image, f"image/{key}{ending}", f"json/{key}.json", content)


def flat_id(name: str) -> str:
    """An id without folders, for a file name.

    img2dataset's 00012/000120007 is unique as 000120007; other ids keep their folder's name.

    >>> flat_id("00012/000120007"), flat_id("a/b")
    ('000120007', 'a_b')
    """
    path = PurePosixPath(name)
    unique = path.name.startswith(path.parent.name) and path.name[:1].isdigit()
    return safe_id(path.name if unique else str(path).lstrip("/"))


def _caption(text: str) -> bytes:
    return (json.dumps({"text": text}, ensure_ascii=False) + "\n").encode()
