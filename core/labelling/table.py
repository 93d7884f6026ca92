"""The Parquet file of a shard: its columns, and writing it some rows at a time.

The bytes depend on the labels alone: nothing of times, machines or workers is in the file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import TTDError
from .settings import Box, Labels, Settings, TagMask

ROWS = 1000  # in a row group: what a worker holds of a shard's labels
MISSING = (
    "labels are stored as Parquet, which needs pyarrow: pip install -r requirements-labels.txt"
)
KEY = b"ttd"  # of the file's metadata


def parquet() -> tuple[Any, Any]:
    """pyarrow and its Parquet module. TTDError, with what to install, where they are absent."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TTDError(MISSING) from None
    return pyarrow, pyarrow.parquet


def schema_of(settings: Settings, about: Mapping[str, Any]) -> Any:
    """The columns of a shard's file. about: what its metadata says, under the key `ttd`."""
    pa, _ = parquet()
    word = [
        ("word", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("score", pa.float32()),
        ("norm", pa.float32()),
        ("selected", pa.bool_()),
        ("x", pa.int32()),
        ("y", pa.int32()),
    ]
    columns = [
        ("key", pa.string()),
        ("image", pa.string()),
        ("caption", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("words", pa.list_(pa.struct(word))),
        ("tags", pa.list_(pa.string())),
    ]
    rle = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    if settings.wants("masks"):
        mask = pa.struct([("tag", pa.string()), ("area", pa.int64()), ("rle", rle)])
        columns += [("caption_area", pa.int64()), ("caption_mask", rle), ("masks", pa.list_(mask))]
    if settings.wants("boxes"):
        corners = pa.list_(pa.float64())
        box = pa.struct([("text", pa.string()), ("source", pa.string()), ("box", corners)])
        columns.append(("boxes", pa.list_(box)))
    metadata = {KEY: json.dumps(about, sort_keys=True, ensure_ascii=True).encode()}
    return pa.schema(columns, metadata=metadata)


def row(labels: Labels, settings: Settings) -> dict[str, Any]:
    """The row of one record."""
    height, width = labels.size
    values = {**labels.row, "height": height, "width": width}
    if settings.wants("masks") and labels.caption_mask is not None:
        values["caption_area"] = labels.caption_mask.area
        values["caption_mask"] = labels.caption_mask.rle
        values["masks"] = [_mask(one) for one in labels.masks]
    if settings.wants("boxes"):
        values["boxes"] = [_box(one) for one in labels.boxes]
    return values


def _mask(one: TagMask) -> dict[str, Any]:
    return {"tag": one.tag, "area": one.area, "rle": one.rle}


def _box(one: Box) -> dict[str, Any]:
    return {"text": one.text, "source": one.source, "box": list(one.corners)}


class TableWriter:
    """Collects rows and writes them `ROWS` at a time, so that memory does not grow with a shard."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._pa, pq = parquet()
        self._schema, self._rows = schema, list[dict[str, Any]]()
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, row: dict[str, Any]) -> None:
        """One row. OSError: the disk is full."""
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(self._pa.Table.from_pylist(self._rows, self._schema))
            self._rows = []

    def close(self) -> None:
        """Write what is left, and the file's end. OSError: the disk is full."""
        self._flush()
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(OSError):
            self._file.close()


@contextmanager
def table_writer(path: Path, schema: Any) -> Iterator[TableWriter]:
    """A writer that is closed at the end of the block; after an error its file is of no use."""
    writer = TableWriter(path, schema)
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise
    writer.close()
