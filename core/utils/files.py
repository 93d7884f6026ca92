"""Files that are whole or absent, locks, safe names, and the JSON stored beside a result."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import TTDError, UnreadableError

try:
    import fcntl
except ImportError:  # Windows has no such locks: one run at a time is up to the user
    fcntl = None  # type: ignore[assignment]

UNSAFE = {ord(character): "_" for character in '/\\:*?"<>|'}
NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # from a file system that cannot wait for its disk
MOST_BYTES = 200  # of a file's stem: with an ending and a temporary mark below the usual 255
MOST_READ = 1 << 31  # bytes of a file that is read whole
# What the system says of a name or a content that is wrong, and stays so; decoders of damaged files
# seek to places that do not exist (EINVAL).
WRONG = {errno.EINVAL, errno.EOVERFLOW, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EFBIG}


@contextmanager
def atomic(path: Path, *, shared: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it is moved to `path` when the block ends well.

    After an error nothing is left beside `path`, and `path` is what it was before. shared: other
    processes may be writing the same file at the same time. durable: on the disk, with its name,
    when this returns, so that a loss of power cannot take it back: for what declares a result
    finished. Raises what the block raises, and OSError when the file cannot be moved.
    """
    mark = f".{uuid.uuid4().hex[:8]}" if shared else ""
    part = path.with_name(f".{path.name}{mark}.part")
    try:
        yield part
        if durable:
            sync_file(part)
        os.replace(part, path)
        part.unlink(missing_ok=True)  # a hard link moved onto another of the same file stays
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk. OSError: it is not there, or the disk is full."""
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in NO_SYNC:
                raise


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the platform can say so."""
    with contextlib.suppress(OSError):  # Windows, and some file systems, cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_all() -> None:
    """Wait until everything written so far is on the disk: before a mark for very many files."""
    if hasattr(os, "sync"):
        os.sync()


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all; durable: as `atomic`. OSError when it cannot be done."""
    with atomic(path, durable=durable) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a UTF-8 file as `write_bytes`, line ends as they are. OSError: cannot be done.

    Names that are no UTF-8 hold lone surrogates, which are written as JSON's escapes (`\\udcff`).
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"), durable=durable)


@contextmanager
def write_errors(path: Path, advice: str) -> Iterator[None]:
    """Turn an OSError of the block into one line about `path`: a TTDError that ends in `advice`."""
    try:
        yield
    except OSError as error:
        raise TTDError(f"{path}: cannot be written ({write_reason(error)}); {advice}") from None


def write_reason(error: OSError) -> str:
    """Why a file cannot be written, in the system's words."""
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return "its folder is gone"
    return error.strerror or str(error)


def try_lock(file: IO[Any], *, exclusive: bool = True) -> bool:
    """Lock an open file without waiting; False when another process holds a lock against it.

    The lock ends with the file. True also where the file system or the platform has no locks.
    """
    return _lock(file, exclusive, wait=False)


def wait_for_lock(file: IO[Any]) -> None:
    """Lock an open file for this process alone; waits until others give it up."""
    _lock(file, exclusive=True, wait=True)


def _lock(file: IO[Any], exclusive: bool, wait: bool) -> bool:
    if fcntl is None:
        return True
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def safe_name(name: str) -> str:
    """A name that is one file on every platform: separators and reserved characters become `_`."""
    return name.translate(UNSAFE)


def safe_id(name: str) -> str:
    """A record's id as the name of a file without its ending: `safe_name` that stays in its folder.

    `..`, leading dots, control characters, lone surrogates and other invisible characters become
    `_`; a name that is too long for a file system is cut and ends in a hash of the whole.
    An ordinary id is returned as it is.

    >>> safe_id("../../x"), safe_id("a b.c"), safe_id("/etc/x")
    ('_._.._x', 'a b.c', '_etc_x')
    """
    safe = "".join("_" if _invisible(char) else char for char in safe_name(name)) or "_"
    safe = "_" + safe[1:] if safe.startswith(".") else safe
    if len(safe.encode()) > MOST_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        safe = safe.encode()[: MOST_BYTES - 17].decode(errors="ignore") + "-" + digest
    return safe


def _invisible(char: str) -> bool:
    """Control characters, surrogates and line separators: nothing that a name should hold."""
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


def bad_id(name: str) -> str:
    """Why an id cannot name a file or a line of a list; "" where it can."""
    if not name.strip():
        return "an empty id"
    if any(_invisible(char) for char in name):
        return "an id with control characters or half a surrogate pair"
    return ""


def expanded(path: str | Path) -> Path:
    """A path with `~` as the home folder; `~nobody` stays as it is, and is then not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, no home
        return Path(path)


def resolved(path: str | Path) -> Path:
    """The path without links and `..`; of links that lead round in a circle, what they are."""
    return Path(os.path.realpath(path))


def is_there(path: Path) -> bool:
    """Whether a path exists; False too for names that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a NUL byte, no permission on the way
        return False


def is_away(error: BaseException) -> bool:
    """Whether a file could not be read for a reason that may pass: the next run tries it again.

    So are a missing file, a lack of permission, a timeout, an I/O error, a stale handle of a
    server. Errors of decoders carry no number of the system and are not.
    """
    if isinstance(error, UnreadableError):
        return True
    if not isinstance(error, OSError):
        return False
    number = getattr(error, "errno", None)
    return isinstance(error, TimeoutError) or (number is not None and number not in WRONG)


def reading_error(error: OSError, message: str) -> TTDError:
    """The error of `message` that a reader raises for what the system said."""
    return UnreadableError(message) if is_away(error) else TTDError(message)


def regular_bytes(path: Path, most: int = MOST_READ) -> bytes:
    """The bytes of a regular file. TTDError in one line for anything else.

    Refused are those of `check_regular`, and files of more than `most` bytes.
    """
    with _reading(path):
        size = _regular_size(path)
        if size > most:
            raise TTDError(f"{path}: {size} bytes; at most {most} are read")
        return path.read_bytes()


def check_regular(path: Path) -> None:
    """TTDError unless `path` is a regular file.

    Refused are pipes, devices and sockets (reading them may wait for ever), folders, and names that
    no file can have.
    """
    with _reading(path):
        _regular_size(path)


def _regular_size(path: Path) -> int:
    """The bytes of a regular file. TTDError, OSError, ValueError."""
    kind = path.stat()
    if not stat.S_ISREG(kind.st_mode):
        what = "a folder" if stat.S_ISDIR(kind.st_mode) else "not a regular file"
        raise TTDError(f"{path}: {what}; name a file")
    return kind.st_size


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the system says of a file that cannot be read, as one line."""
    try:
        yield
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such file") from None
    except OSError as error:  # no permission, a name too long, a disk that is away
        reason = error.strerror or error
        message = f"{str(path)[:200]!r}: cannot be read ({reason})"
        raise reading_error(error, message) from None
    except ValueError as error:  # a NUL byte
        raise TTDError(f"{str(path)[:200]!r}: cannot be read ({error})") from None


def regular_text(path: Path, most: int = MOST_READ) -> str:
    """The UTF-8 text of a regular file, without a byte-order mark. Errors as `regular_bytes`."""
    try:
        return regular_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TTDError(f"{path}: not UTF-8 text; save it as UTF-8") from None


def visible_names(folder: Path) -> list[str]:
    """Names in a folder without hidden ones, sorted. TTDError when it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise TTDError(
            f"{folder}: cannot be listed ({error.strerror}); check its permissions"
        ) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is none or the file is damaged."""
    try:
        content = json.loads(regular_bytes(path))
    except (TTDError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def section(content: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """The mapping under `key`, {} where there is none or something else stands there."""
    value = (content or {}).get(key)
    return value if isinstance(value, dict) else {}


def without(path: Path) -> str:
    """How `read_json` found nothing, after "there is": the file is not there, or damaged."""
    return f"with a damaged {path.name}" if is_there(path) else f"without {path.name}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all, to stay. TTDError when it cannot be written."""
    with write_errors(path, "make room, or choose another --out"):
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_text(path, text, durable=True)


def differences(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """`key: stored value, not our value` for every key whose values differ, nested keys dotted."""
    old, new = flatten(stored), flatten(ours)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {_shown(old.get(key))}, not {_shown(new.get(key))}" for key in keys]


def flatten(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
