"""A file that is being fetched, `.NAME.part`, and what is known of it for resuming."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from ...errors import TTDError
from ...utils.files import read_json, sync_file, sync_folder, try_lock, write_json, write_reason

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Part:
    """The bytes fetched so far. Use as a context; a second process is refused meanwhile.

    `.NAME.part.json` beside it holds the address, the server's name for this version of the file
    (`ETag` or `Last-Modified`) and its length: the rest is asked for only of the same version.
    """

    def __init__(self, path: Path):
        """path: where the finished file will be. TTDError: no file can be made there."""
        self.target = path
        self.path = path.with_name(f".{path.name}.part")
        self._note = path.with_name(f".{path.name}.part.json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("ab")
        except OSError as error:
            raise self._refusal(error) from None
        self._lock()

    def _lock(self) -> None:
        same = os.fstat(self._file.fileno()).st_ino
        free = try_lock(self._file)
        if not free or not self.path.exists() or self.path.stat().st_ino != same:
            self._file.close()
            raise TTDError(f"{self.target}: another process is fetching it; wait for that one")

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if self.path.is_file() and self.path.stat().st_size == 0:
            self.discard()

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self._file.tell()

    def known(self, url: str) -> dict[str, str | int]:
        """What was noted of this address: `version`, `total`; {} where it is another's."""
        noted = read_json(self._note) or {}
        if noted.get("url") != url:
            return {}
        kinds = {"version": str, "total": int}
        return {key: noted[key] for key, kind in kinds.items() if type(noted.get(key)) is kind}

    def note(self, url: str, version: str, total: int | None) -> None:
        """Keep what the server says, before its first byte. TTDError: it cannot be written."""
        write_json(self._note, {"url": url, "version": version, "total": total})

    def restart(self) -> None:
        """Forget everything."""
        self._file.truncate(0)
        self._file.seek(0)
        self._note.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append. TTDError where that cannot be; what is there stays."""
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._refusal(error) from None

    def finish(self) -> None:
        """The file is whole: onto the disk, and under its name. TTDError: it cannot be."""
        try:
            sync_file(self.path)
            os.replace(self.path, self.target)
            self._note.unlink(missing_ok=True)
            sync_folder(self.target.parent)
        except OSError as error:
            raise self._refusal(error) from None

    def discard(self) -> None:
        """Leave nothing."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _refusal(self, error: OSError) -> TTDError:
        advice = "choose another folder"
        if error.errno in FULL:
            advice = "make room and run the same command again, it resumes"
        return TTDError(f"{self.target}: cannot be written ({write_reason(error)}); {advice}")
