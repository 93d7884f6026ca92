"""The rows of a labelled set, shard by shard, with no more than some of them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.records import Record
from ..errors import TTDError
from .claim import FAILED, PROTOCOL, parsed
from .labeller import digest_of
from .manifest import FORM, json_files, read_about
from .places import Output, fetched, stamp_of
from .shard import file_digest, records_of
from .table import parquet

AT_ONCE = 256  # rows that are made Python's at a time


@dataclass(frozen=True)
class LabelledShard:
    """One shard of a set: where its labels are, and their name."""

    out: Output
    name: str

    @property
    def about(self) -> dict[str, Any]:
        """What its NAME.json says, read now. TTDError: it is damaged."""
        return read_about(self.out, f"{self.name}.json")

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Its rows in order. TTDError: the file is damaged, or lacks one of `columns`."""
        url = f"{self.out.url}/{self.name}.parquet"
        with fetched(url, stamp_of(url).size) as path:
            yield from _rows(path, url, columns)

    def with_records(self) -> Iterator[tuple[dict[str, Any], Record]]:
        """Every row with its record, whose image can be read while the iteration is there.

        UnreadableError: the shard itself is gone; TTDError: it is another one.
        """
        about = self.about
        url, known = about["shard"], about["input"]
        with ExitStack() as held:
            stamp = stamp_of(url)
            path = held.enter_context(fetched(url, stamp.size))
            same = stamp.mark and (stamp.size, stamp.mark) == (known["size"], known["mark"])
            if not same and file_digest(path) != known["sha256"]:
                raise TTDError(f"{url}: not the file that was labelled; label it again")
            records = iter(records_of(path).iterate())
            for row in self.rows():
                record = next(
                    (one for one in records if isinstance(one, Record) and one.id == row["key"]),
                    None,
                )
                if record is None:
                    raise TTDError(f"{url}: no {row['key']} in it; label it again")
                yield row, record


def _rows(path: Path, url: str, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    pa, pq = parquet()
    try:
        file = pq.ParquetFile(path)
        lacking = [name for name in columns or () if name not in file.schema_arrow.names]
        if lacking:
            raise TTDError(
                f"{url}: no column {', '.join(lacking)}; label the set again with --want masks "
                "or boxes"
            )
        for batch in file.iter_batches(AT_ONCE, columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise TTDError(
            f"{url}: damaged ({reason}); delete it, its shard is labelled again"
        ) from None


@dataclass(frozen=True)
class LabelledSet:
    """A set that label_shards.py made: settings, shards by name, names of those that failed."""

    out: Output
    identity: dict[str, Any]
    shards: list[LabelledShard]
    failed: list[str]

    def made(self, shard: LabelledShard) -> bool:
        """Whether the settings of the set made a shard's labels: others may have been left over."""
        return bool(shard.about["protocol"] == digest_of(self.identity))

    @property
    def columns(self) -> set[str]:
        """Columns beside those that every set has."""
        want = set(self.identity.get("want", ()))
        found = {"caption_mask", "caption_area", "masks"} if "masks" in want else set()
        return found | ({"boxes"} if "boxes" in want else set())


def open_labels(place: str) -> LabelledSet:
    """The set in a folder or at a URL. TTDError: none is there, or its files are damaged."""
    out = Output(place)
    identity = parsed(out.read(PROTOCOL) or b"").get("identity")
    if not isinstance(identity, dict):
        raise TTDError(f"{place}: no {PROTOCOL} in it, so no labels; {FORM}")
    names = [file.removesuffix(".json") for file in json_files(out)]
    failed = [name for name in names if name.startswith(f"{FAILED}/")]
    shards = [LabelledShard(out, name) for name in names if not name.startswith(f"{FAILED}/")]
    if not shards:
        raise TTDError(f"{place}: no labels of any shard in it; {FORM}")
    return LabelledSet(out, identity, shards, failed)


def rle_of(value: dict[str, Any]) -> dict[str, Any]:
    """COCO's run lengths as JSON holds them."""
    return {"size": list(value["size"]), "counts": value["counts"]}


def as_json(value: Any) -> str:
    """One line of JSON in UTF-8's characters."""
    return json.dumps(value, ensure_ascii=False)
