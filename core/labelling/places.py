"""Where shards are read and labels are written: this machine's disks, or a bucket by fsspec.

A path without a scheme and `file://` are local; `s3://`, `gs://`, `hf://` and others are fsspec's,
each with a package of its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.records import expand_braces, match_patterns
from ..errors import TTDError, UnreadableError
from ..utils.files import atomic, expanded, sync_file, visible_names, write_reason

ADVICE = "make room or mend the access, and run the same command again: it resumes where it stopped"
MAGIC = set("*?[")
MARKS = (
    *("etag", "ETag", "blob_id", "checksum", "md5Hash", "Content-MD5", "mtime", "LastModified"),
    *("Last-Modified", "last_modified", "created"),
)
PART = ".part"


class OutputError(TTDError):
    """No shard can be finished, because labels cannot be stored, say: the run ends."""


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file has changed: its size in bytes, and its etag or time."""

    size: int
    mark: str


def is_remote(url: str) -> bool:
    """Whether fsspec reads it; False for a path of this machine."""
    return "://" in url and not url.startswith("file://")


def local_path(url: str) -> Path:
    """A local path as `Path`: `~` and `file://` are understood."""
    return expanded(url.removeprefix("file://"))


def absolute(url: str) -> str:
    """A place as it is called from everywhere: a URL, or a path from the root."""
    return url if is_remote(url) else os.path.abspath(local_path(url))


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it. TTDError: a scheme that is not there."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise TTDError(f"{url}: {error}") from None
    return filesystem, str(path)


# --- input ---


def list_shards(patterns: Sequence[str]) -> list[str]:
    """The shards that patterns name, each once, in the order of their names.

    `{00000..01242}` names all of its files, there or not; `*` those that are there. TTDError where
    a pattern names nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = sorted(set(_matches(pattern)))
        if not hits:
            raise TTDError(f"{pattern}: no such shards; check the path")
        found |= dict.fromkeys(hits)
    return list(found)


def _matches(pattern: str) -> Iterator[str]:
    """The files of one pattern; of a folder, its tars."""
    if not is_remote(pattern):
        path = Path(os.path.abspath(local_path(pattern)))
        if path.is_dir():  # its name is no pattern
            yield from (str(path / one) for one in visible_names(path) if one.endswith(".tar"))
        elif path.exists():
            yield str(path)
        else:
            for part in expand_braces(str(path)):
                yield from map(str, match_patterns(part)) if set(part) & MAGIC else (part,)
        return
    for part in expand_braces(pattern):
        system, path_in = filesystem(part)
        found = [path_in]
        if _is_folder(part):
            with reading(part):
                found = system.glob(f"{path_in.rstrip('/')}/*.tar")
        elif set(part) & MAGIC:
            with reading(part):
                found = system.glob(path_in)
        yield from map(system.unstrip_protocol, found)


def _is_folder(url: str) -> bool:
    """Whether a URL without braces and wildcards names a folder of a bucket."""
    if set(url) & (MAGIC | {"{"}) or url.lower().endswith(".tar"):
        return False
    system, path = filesystem(url)
    with reading(url):
        return bool(system.isdir(path))


def static_root(patterns: Sequence[str]) -> str:
    """The folder that all patterns name before their first brace or wildcard.

    Names of outputs are relative to it, so that they depend on the command alone.
    """
    roots = [_folder_of(pattern) for pattern in patterns]
    first = roots[0].split("/")
    for root in roots[1:]:
        parts = root.split("/")
        same = 0
        while same < min(len(first), len(parts)) and first[same] == parts[same]:
            same += 1
        first = first[:same]
    return "/".join(first)


def _folder_of(pattern: str) -> str:
    if is_remote(pattern):
        system, path = filesystem(pattern)
        text = str(system.unstrip_protocol(path)).rstrip("/")
        if _is_folder(pattern):
            return text
    else:
        text = os.path.abspath(local_path(pattern))
        if os.path.isdir(text):
            return text
    ends = [text.index(char) for char in "*?[{" if char in text]
    return text[: min(ends, default=len(text))].rpartition("/")[0]


def stamp_of(url: str) -> Stamp:
    """Size and etag (a bucket) or time (a disk). UnreadableError where it is not there."""
    if not is_remote(url):
        with reading(url):
            found = local_path(url).stat()
        return Stamp(found.st_size, str(found.st_mtime_ns))
    system, path = filesystem(url)
    with reading(url):
        info = system.info(path)
    mark = next((str(info[name]) for name in MARKS if info.get(name)), "")
    return Stamp(int(info.get("size") or 0), mark)


@contextmanager
def fetched(url: str, size: int) -> Iterator[Path]:
    """The file on this machine: itself, or a copy that is deleted at the end of the block.

    size: its bytes; UnreadableError where fewer or more arrive.
    """
    if not is_remote(url):
        yield local_path(url)
        return
    system, path = filesystem(url)
    with tempfile.TemporaryDirectory(prefix="ttd-shard-") as folder:
        copy = Path(folder) / path.rpartition("/")[2]
        with reading(url):
            system.get_file(path, str(copy))
        if size and copy.stat().st_size != size:  # 0: the server does not say
            raise UnreadableError(f"{url}: {copy.stat().st_size} of {size} bytes arrived")
        yield copy


@contextmanager
def reading(url: str) -> Iterator[None]:
    """What a file system says of an input that cannot be read, as one line."""
    try:
        yield
    except TTDError:
        raise
    except FileNotFoundError:
        raise UnreadableError(f"{url}: no such file") from None
    except Exception as error:  # every file system has errors of its own
        raise UnreadableError(f"{url}: cannot be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- output ---


class Output:
    """The folder of labels, local or in a bucket. Every file in it is whole or absent.

    Errors of writing are `OutputError`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or "/"
        self._local = None if is_remote(url) else local_path(url)

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where it is not there. UnreadableError: it cannot be read."""
        place = f"{self.url}/{name}"
        try:
            if self._local is not None:
                return (self._local / name).read_bytes()
            system, path = filesystem(place)
            content: bytes = system.cat_file(path)
            return content
        except (FileNotFoundError, NotADirectoryError):
            return None
        except TTDError:
            raise
        except Exception as error:
            raise UnreadableError(f"{place}: cannot be read ({_reason(error)})") from None

    def sizes(self) -> dict[str, int]:
        """Bytes of every file by its name below the folder, without hidden and unfinished ones."""
        if self._local is not None:
            paths = (path for path in self._local.rglob("*") if path.is_file())
            found = {p.relative_to(self._local).as_posix(): p.stat().st_size for p in paths}
        else:
            system, root = filesystem(self.url)
            system.invalidate_cache()
            with reading(self.url):
                listed = system.find(root, detail=True) if system.exists(root) else {}
            system.invalidate_cache()  # other workers write here: what is listed says nothing later
            found = {path[len(root) :].lstrip("/"): one["size"] for path, one in listed.items()}
        return {name: size for name, size in sorted(found.items()) if not _hidden(name)}

    def size(self, name: str) -> int | None:
        """Bytes of one file, None where it is not there."""
        try:
            return stamp_of(f"{self.url}/{name}").size
        except UnreadableError:
            return None

    @contextmanager
    def part(self, name: str) -> Iterator[Path]:
        """A path of this machine to write to; it becomes the file when the block ends well."""
        if self._local is not None:
            with atomic(self._made(name), shared=True, durable=True) as part:
                yield part
            return
        with tempfile.TemporaryDirectory(prefix="ttd-labels-") as folder:
            part = Path(folder) / "part"
            yield part
            self._put(part, name)

    def write(self, name: str, data: bytes) -> None:
        """A small file, whole or not at all."""
        with self.storing(name), self.part(name) as part:
            part.write_bytes(data)
            sync_file(part)

    def remove(self, name: str) -> None:
        """Delete a file; nothing where it is not there."""
        if self._local is not None:
            with self.storing(name):
                (self._local / name).unlink(missing_ok=True)
        elif self.size(name) is not None:
            with self._remote(name) as (system, path):
                system.rm_file(path)

    def sweep(self, done: Callable[[str], bool]) -> None:
        """Delete what killed processes left of files that are `done` since, by their names."""
        if self._local is None:
            return
        for path in self._local.rglob(f".*{PART}"):
            name = path.name[1 : -len(PART)].rpartition(".")[0]  # without the mark of the process
            if done(path.with_name(name).relative_to(self._local).as_posix()):
                path.unlink(missing_ok=True)

    @contextmanager
    def storing(self, name: str) -> Iterator[None]:
        """What a file system says of an output that cannot be written, as one line."""
        place = f"{self.url}/{name}"
        try:
            yield
        except OSError as error:
            raise OutputError(_unwritten(place, write_reason(error))) from None

    @contextmanager
    def _remote(self, name: str) -> Iterator[tuple[Any, str]]:
        """The bucket's file system and a path in it; its own errors become one line."""
        place = f"{self.url}/{name}"
        system, path = filesystem(place)
        try:
            yield system, path
        except Exception as error:
            raise OutputError(_unwritten(place, _reason(error))) from None

    def _made(self, name: str) -> Path:
        assert self._local is not None
        path = self._local / name
        with self.storing(name):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _put(self, part: Path, name: str) -> None:
        with self._remote(name) as (system, path):
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(str(part), path)


def _unwritten(place: str, reason: str) -> str:
    return f"{place}: cannot be written ({reason}); {ADVICE}"


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
