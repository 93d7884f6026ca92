"""One shard to one Parquet file: the function that every engine runs.

    worker = Worker(Settings(("tags",)), "labels")
    worker(Shard("cc12m/00000.tar", "00000"))                # Report

A shard's labels are `NAME.parquet` (with --png also `NAME.tar`) and then `NAME.json`, which says
that they are whole: from what they were made (size, etag or time, SHA-256), by which settings, with
which counts, and what was skipped and why. What is whole is kept, so whoever runs a shard again,
another process or another run, does nothing twice. A shard that cannot be read is listed under
`_failed/NAME.json`, and is tried again by the next run.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..data.records import RecordSet, Skipped
from ..data.records.ids import checked
from ..data.records.shards import open_shards
from ..errors import TTDError, UnreadableError
from .claim import FAILED, as_bytes, claim, parsed
from .labeller import Labeller
from .places import Output, OutputError, Stamp, fetched, stamp_of
from .settings import Labels, Settings
from .table import row, schema_of, table_writer

TRIES = 2  # of a shard that cannot be read
STRANGE = 5  # shards in a row that fail unforeseen: then it is the machine or the program
PAUSE = 1.0  # seconds before another try
MADE, KEPT, LOST, STOPPED = "made", "kept", "failed", "stopped"
BLOCK = 1 << 22


@dataclass(frozen=True)
class Shard:
    """An input, and the name of its labels below the output."""

    url: str
    name: str


@dataclass(frozen=True)
class Report:
    """What became of a shard.

    state: `made`, `kept` (was whole), `failed` (reason: why it cannot be read), or `stopped`: the
    reason concerns the whole run. decode: seconds that its readers were busy, model: seconds.
    """

    shard: str
    state: str
    pairs: int = 0
    skipped: int = 0
    seconds: float = 0.0
    decode: float = 0.0
    model: float = 0.0
    images: int = 0
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """As plain values, for what passes rows between machines."""
        return asdict(self)


class Worker:
    """Labels one shard after the other; what is whole in the output is left alone.

    The models are loaded with the first shard.
    """

    def __init__(self, settings: Settings, out: str, overwrite: bool = False) -> None:
        """out: folder or URL. overwrite: labels of other settings are replaced."""
        self.settings, self.out, self._overwrite = settings, Output(out), overwrite
        self._labeller: Labeller | None = None
        self._strange = 0  # shards in a row that failed in a way that no reader has foreseen

    @property
    def labeller(self) -> Labeller:
        """The models, loaded at the first call. TTDError: other settings made what is there."""
        if self._labeller is None:
            labeller = Labeller(self.settings)
            claim(self.out, labeller.identity, self._overwrite)
            self._labeller = labeller
        return self._labeller

    def __call__(self, shard: Shard) -> Report:
        """Label a shard, twice where the first try fails, and say what came of it."""
        start = time.perf_counter()
        try:
            _ = self.labeller
            report = self._tried(shard)
        except TTDError as error:
            report = Report(shard.name, STOPPED, reason=str(error))
        return replace(report, seconds=time.perf_counter() - start)

    def _tried(self, shard: Shard) -> Report:
        """A shard after at most `TRIES` tries. OutputError: the run cannot go on."""
        reason = ""
        for number in range(TRIES):
            time.sleep(PAUSE * (number > 0))
            try:
                report = self._labelled(shard)
                self._strange = 0
                return report
            except OutputError:
                raise
            except TTDError as error:
                reason = " ".join(str(error).split())
            except Exception as error:  # what no reader has foreseen must not end a run of days
                reason = f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self._strange = self._strange + 1 if reason.startswith("unexpected") else 0
        if self._strange == STRANGE:
            raise OutputError(f"{STRANGE} shards in a row failed, the last by: {reason}")
        return list_failed(self.out, shard, reason)

    def _labelled(self, shard: Shard) -> Report:
        known = finished(self.out, shard, self.labeller.digest)
        same = known is not None and known["shard"] == shard.url
        try:
            stamp = stamp_of(shard.url)
        except UnreadableError:
            if known is None or not same:
                raise
            return self._kept(shard, known)  # an input that was cleared away since
        # Sizes alone say little: a tar's is a multiple of 10,240 bytes.
        if known is not None and same and stamp.mark and _stamp(known) == stamp:
            return self._kept(shard, known)
        with fetched(shard.url, stamp.size) as path:
            digest = file_digest(path)
            if known is not None and known["input"]["sha256"] == digest:  # under another date
                return self._kept(shard, known, _found_at(known, shard, stamp))
            if known is not None and not same and not self._overwrite:
                raise OutputError(
                    f"{self.out}/{shard.name}.parquet holds the labels of {known['shard']}, not of "
                    f"{shard.url}; choose another --out or add --overwrite"
                )
            return self._made(shard, path, stamp, digest)

    def _kept(
        self, shard: Shard, known: dict[str, Any], now: dict[str, Any] | None = None
    ) -> Report:
        """A shard that is whole. now: what is known of it from now on, where that is new."""
        if now not in (None, known):
            self.out.write(f"{shard.name}.json", as_bytes(now or known))
        self.out.remove(f"{FAILED}/{shard.name}.json")
        return _report(shard, KEPT, known)

    def _made(self, shard: Shard, path: Path, stamp: Stamp, digest: str) -> Report:
        """Label the shard whose file is at `path`. TTDError: damaged as a whole."""
        labeller, clock = self.labeller, replace(self.labeller.clock)
        about = {"protocol": labeller.digest, "input": digest, "identity": labeller.identity}
        self.out.remove(f"{shard.name}.json")  # from here on there is nothing to keep
        counts, files = self._write(shard, path, about)
        content = {
            "shard": shard.url,
            "name": shard.name,
            "input": {"size": stamp.size, "mark": stamp.mark, "sha256": digest},
            "protocol": labeller.digest,
            "weights": labeller.backbone.checksum,
            "pairs": counts["pairs"],
            "words": counts["words"],
            "tags": counts["tags"],
            "output": files,
            "skipped": [item.row() for item in counts["skipped"]],
        }
        self.out.write(f"{shard.name}.json", as_bytes(content))
        self.out.remove(f"{FAILED}/{shard.name}.json")
        now = labeller.clock
        return replace(
            _report(shard, MADE, content),
            decode=now.decode - clock.decode,
            model=now.model - clock.model,
            images=now.images - clock.images,
        )

    def _write(
        self, shard: Shard, path: Path, about: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Store the labels of all records: counts, and sizes and checksums of the files."""
        settings, records = self.settings, records_of(path)
        counts: dict[str, Any] = {"pairs": 0, "words": 0, "tags": 0, "skipped": []}
        files: dict[str, Any] = {}
        with ExitStack() as held:
            held.enter_context(self.out.storing(shard.name))
            parts = _Parts(held, self.out, shard, settings.png)
            table = held.enter_context(table_writer(parts.table, schema_of(settings, about)))
            # Closed first of all: its threads read the shard's file.
            batches = held.enter_context(closing(self.labeller.label(records.iterate())))
            for batch in batches:
                counts["skipped"] += batch.skipped
                for labels in batch.labels:
                    counts["pairs"] += 1
                    counts["words"] += len(labels.row["words"])
                    counts["tags"] += len(labels.row["tags"])
                    table.add(row(labels, settings))
                    parts.add_pngs(labels)
            _check_whole(shard, counts)
            parts.on_close(files)
        return counts, files


class _Parts:
    """The files of a shard while they are written."""

    def __init__(self, held: ExitStack, out: Output, shard: Shard, png: bool) -> None:
        """held: what closes them, and so moves them to their places, when all went well."""
        self._paths = {"parquet": held.enter_context(out.part(f"{shard.name}.parquet"))}
        self._tar: tarfile.TarFile | None = None
        self._files: dict[str, Any] | None = None
        if png:
            self._paths["tar"] = held.enter_context(out.part(f"{shard.name}.tar"))
        held.push(self._measured)
        if png:
            self._tar = held.enter_context(tarfile.TarFile(self._paths["tar"], "w"))

    @property
    def table(self) -> Path:
        """Where the Parquet file is written."""
        return self._paths["parquet"]

    def add_pngs(self, labels: Labels) -> None:
        """KEY.png, the caption's mask, and KEY.0.png, KEY.1.png, ... those of its tags."""
        for number, data in enumerate(labels.pngs):
            ending = "png" if number == 0 else f"{number - 1}.png"
            info = tarfile.TarInfo(f"{labels.row['key']}.{ending}")
            info.size = len(data)
            assert self._tar is not None
            self._tar.addfile(info, io.BytesIO(data))

    def on_close(self, files: dict[str, Any]) -> None:
        """Put size and checksum of every file, once it is complete, into `files`."""
        self._files = files

    def _measured(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is None and self._files is not None:
            for ending, path in self._paths.items():
                self._files[ending] = {"size": path.stat().st_size, "sha256": file_digest(path)}
        return False


def list_failed(out: Output, shard: Shard, reason: str) -> Report:
    """Note in the output that a shard could not be labelled, and why."""
    content = {"shard": shard.url, "name": shard.name, "reason": reason}
    out.write(f"{FAILED}/{shard.name}.json", as_bytes(content))
    return Report(shard.name, LOST, reason=reason)


def finished(out: Output, shard: Shard, digest: str) -> dict[str, Any] | None:
    """What NAME.json says of a shard whose labels are whole and of these settings, else None."""
    content = out.read(f"{shard.name}.json")
    known = {} if content is None else parsed(content)
    try:
        complete = known["input"].keys() >= {"size", "mark", "sha256"} and known["output"]
        if known["protocol"] != digest or not known["shard"] or not complete:
            return None
        for ending, file in known["output"].items():
            if out.size(f"{shard.name}.{ending}") != file["size"]:
                return None
        return known
    except (KeyError, TypeError, AttributeError):
        return None


def records_of(path: Path) -> RecordSet:
    """The records of a shard; names are relative to its folder. TTDError: no regular file."""
    return checked(open_shards([path], path.parent))


def _check_whole(shard: Shard, counts: dict[str, Any]) -> None:
    """TTDError for a shard of which something could not be read now, or which holds no pair."""
    skipped: list[Skipped] = counts["skipped"]
    lost = [item for item in skipped if item.retry]
    if lost:
        raise UnreadableError(f"{shard.url}: {len(lost)} records: {lost[0].reason}")
    if skipped and not counts["pairs"]:
        first = skipped[0]
        raise TTDError(f"{shard.url}: no usable pair among {len(skipped)}; {first.reason}")


def _stamp(known: dict[str, Any]) -> Stamp:
    return Stamp(known["input"]["size"], known["input"]["mark"])


def _found_at(known: dict[str, Any], shard: Shard, stamp: Stamp) -> dict[str, Any]:
    """What is known of an input with its new date, and its new place where the old is empty."""
    try:
        if known["shard"] != shard.url and stamp_of(known["shard"]):
            return known
    except TTDError:
        pass
    source = known["input"] | {"size": stamp.size, "mark": stamp.mark}
    return known | {"shard": shard.url, "input": source}


def _report(shard: Shard, state: str, content: dict[str, Any]) -> Report:
    return Report(shard.name, state, content["pairs"], len(content["skipped"]))


def file_digest(path: Path) -> str:
    """SHA-256 of a file. UnreadableError: it cannot be read now."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                found.update(block)
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    return found.hexdigest()
