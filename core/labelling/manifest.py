"""`_manifest.parquet`: one row per shard of a labelled set, and what the set is made with."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from ..errors import TTDError
from ..utils.files import bad_id
from ..utils.prefetch import prefetch
from .claim import FAILED, PROTOCOL, digest_of_set, parsed
from .places import Output, list_shards, static_root
from .shard import Shard
from .table import parquet, table_writer

NAME = "_manifest.parquet"
OWN = (NAME, PROTOCOL)
READERS = 16  # threads: a bucket answers each in its own time
FORM = "wanted: a folder or URL that label_shards.py wrote"


def shards_of(patterns: Sequence[str]) -> list[Shard]:
    """The shards that patterns name, and the names of their labels.

    A name is the path below what the patterns have in common, without `.tar`. TTDError: nothing
    there, or two shards of one name.
    """
    root = static_root(patterns)
    named: dict[str, Shard] = {}
    for url in list_shards(patterns):
        name = url[len(root) :].lstrip("/")
        name = name[: -len(".tar")] if name.lower().endswith(".tar") else name
        _check_name(url, name)
        if name in named:
            raise TTDError(f"{url} and {named[name].url}: both would be labelled as {name}.parquet")
        named[name] = Shard(url, name)
    return list(named.values())


def _check_name(url: str, name: str) -> None:
    """TTDError for a name that is not one of labels."""
    parts = name.split("/")
    own = name in ("_manifest", "_protocol") or parts[0] == FAILED
    if own or any(part.startswith(".") or bad_id(part) for part in parts):
        raise TTDError(f"{url}: its labels would be called {name!r}; rename the shard")


def share(shards: Sequence[Shard], number: int, of: int) -> list[Shard]:
    """Every `of`-th shard from `number` on: the part of one of `of` processes."""
    return list(shards[number::of])


def missing(out: Output, shards: Iterable[Shard]) -> list[Shard]:
    """The shards that are neither labelled nor listed as failed."""
    there = out.sizes()
    known = (f"{FAILED}/{{}}.json", "{}.json")
    return [
        shard for shard in shards if not any(form.format(shard.name) in there for form in known)
    ]


def failed(out: Output, shards: Iterable[Shard]) -> list[Shard]:
    """The shards that are listed as failed."""
    there = out.sizes()
    return [shard for shard in shards if f"{FAILED}/{shard.name}.json" in there]


def write_manifest(out: Output) -> int:
    """Write `_manifest.parquet` of everything in `out`: how many shards. OutputError: disk full.

    What killed processes left unfinished of these shards is deleted.
    """
    pa, _ = parquet()
    out.sweep(partial(_is_done, out.sizes()))
    protocol = out.read(PROTOCOL) or b"{}"
    digest = digest_of_set(out)
    schema = pa.schema(
        [(name, pa.int64() if name in COUNTS else pa.string()) for name in COLUMNS],
        metadata={b"ttd": protocol},
    )
    count = 0
    with (
        out.storing(NAME),
        out.part(NAME) as part,
        table_writer(part, schema) as table,
        closing(read_rows(out)) as rows,
    ):
        for row in rows:
            if row["protocol"] in (digest, None):
                table.add(row)
                count += 1
    return count


def _is_done(there: Mapping[str, int], name: str) -> bool:
    """Whether nobody writes a file any more."""
    stem = name.removeprefix(f"{FAILED}/").rpartition(".")[0]
    return name in OWN or name in there or f"{stem}.json" in there


NEEDED = {"name", "shard", "input", "output", "pairs", "words", "tags", "skipped", "protocol"}
KINDS: dict[str, type] = {
    **dict.fromkeys(("name", "shard", "protocol"), str),
    **dict.fromkeys(("pairs", "words", "tags"), int),
    **dict.fromkeys(("input", "output"), dict),
    "skipped": list,
}
COUNTS = ("input_bytes", "output_bytes", "pairs", "skipped", "words", "tags")
COLUMNS = (
    *("name", "state", "shard", "input_bytes", "input_mark", "input_sha256", "output_bytes"),
    *("output_sha256", "pairs", "skipped", "words", "tags", "weights", "protocol", "reason"),
)


def read_rows(out: Output) -> Generator[dict[str, Any], None, None]:
    """A row of `COLUMNS` for every shard that is labelled or has failed, by name."""
    files = json_files(out)
    read = partial(read_about, out)
    with closing(prefetch(read, files, 64, READERS)) as contents:
        for file, content in zip(files, contents, strict=True):
            yield _failed(content) if file.startswith(f"{FAILED}/") else _row(content)


def json_files(out: Output) -> list[str]:
    """Every NAME.json and _failed/NAME.json, by NAME."""
    names = [name for name in out.sizes() if name.endswith(".json") and name not in OWN]
    return sorted(names, key=lambda name: name.removeprefix(f"{FAILED}/").removesuffix(".json"))


def read_about(out: Output, file: str) -> dict[str, Any]:
    """The content of one of `json_files`. TTDError: it is damaged."""
    content = parsed(out.read(file) or b"")
    if not _is_sound(content, file.startswith(f"{FAILED}/")):
        raise TTDError(f"{out}/{file}: damaged; delete it, its shard is labelled again")
    return content


def _is_sound(content: dict[str, Any], failed: bool) -> bool:
    """Whether all that is read of it later is there."""
    needed = {"name", "shard"} if failed else NEEDED
    if not content.keys() >= needed:
        return False
    if not all(isinstance(content.get(name, kind()), kind) for name, kind in KINDS.items()):
        return False
    try:
        _ = failed or _row(content)
    except (KeyError, TypeError, AttributeError):
        return False
    return True


def _row(content: dict[str, Any]) -> dict[str, Any]:
    """The row of a labelled shard."""
    source, files = content["input"], content["output"]
    names = ("name", "shard", "pairs", "words", "tags", "weights", "protocol")
    return {name: content[name] for name in names} | {
        "state": "labelled",
        "input_bytes": source["size"],
        "input_mark": source["mark"],
        "input_sha256": source["sha256"],
        "output_bytes": sum(file["size"] for file in files.values()),
        "output_sha256": files["parquet"]["sha256"],
        "skipped": len(content["skipped"]),
    }


def _failed(content: dict[str, Any]) -> dict[str, Any]:
    """The row of a shard that could not be read."""
    row = dict.fromkeys(COLUMNS)
    return (
        row
        | {name: content.get(name) for name in ("name", "shard", "reason")}
        | {"state": "failed"}
    )
