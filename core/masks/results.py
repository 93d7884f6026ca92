"""A folder of masks: what made it, who may write into it (a lock), what is there and whole.

    RESULTS/NAME/ID.png         a mask per image, written whole or not at all
    RESULTS/NAME/protocol.json  every constant, arguments, versions, checksums
    RESULTS/NAME/inputs.npz     whether the images or captions have changed since
    RESULTS/NAME/skipped.jsonl  images that could not be read, and why
    RESULTS/NAME/scores/ID.npz  soft maps, where they were asked for
    RESULTS/NAME/export/        copies in other tools' formats (core/export)

All processes of one run (shards) share the lock by a token; it is an flock, so it dies with the
last of them, however they die. The files alone say what is missing, so the same command resumes a
killed run.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..data.inputs.table import SUFFIX, Inputs, check_inputs
from ..errors import TTDError, UnreadableError
from ..utils.files import (
    atomic,
    differences,
    is_away,
    read_json,
    section,
    try_lock,
    wait_for_lock,
    without,
    write_errors,
    write_json,
)

ADVICE = "make room or choose another --out"
META, LOCK, SKIPPED, SCORES = "protocol.json", ".lock", "skipped.jsonl", "scores"
EXPORT = "export"
INPUTS = SUFFIX.removeprefix(".")
PNG_END = b"IEND\xaeB`\x82"  # the last 8 bytes of every complete PNG
WAIT = 30.0  # seconds for which a shard waits until the first one has prepared the folder

Maps = npt.NDArray[np.float16]
Classes = npt.NDArray[np.int16]


class MaskFolder:
    """The folder of one result, locked for this run until `close`; `path` is where it is."""

    def __init__(
        self,
        path: Path,
        meta: Mapping[str, Any],
        token: str,
        overwrite: bool = False,
        inputs: Callable[[], Inputs] | None = None,
    ) -> None:
        """Lock the folder, made where missing, and make sure that it is ours to resume.

        meta: goes into protocol.json; meta["identity"] must equal that of what is there already.
        token: the same for all processes of this run and for no other. Raises TTDError: another run
        is writing here; the folder was made with another identity or from other inputs (the
        differences are named), unless `overwrite`, which then empties it. inputs: makes what the
        masks are made from; asked once in a run.
        """
        self.path, self._inputs = path, inputs
        self._lock = _open_lock(path)
        try:
            with write_errors(path, ADVICE):
                self._enter(meta, token, overwrite)
        except BaseException:
            self.close()
            raise

    def _enter(self, meta: Mapping[str, Any], token: str, overwrite: bool) -> None:
        """Prepare the folder if nobody else is here, then share its lock."""
        if try_lock(self._lock, exclusive=True):
            _write_token(self._lock, token)
            _prepare(self.path, meta, token, overwrite, self._inputs)
            try_lock(self._lock, exclusive=False)
        _join(self._lock, token, self.path)
        self.path.stat()  # or the folder is gone
        stored, identity = read_json(self.path / META), _plain(meta["identity"])
        if stored is None or stored.get("run") != token:
            if stored is not None and differences(section(stored, "identity"), identity):
                _refuse(self.path, stored, meta)
            raise TTDError(
                f"{self.path}: a process ended while it prepared this folder (it says why; where "
                "it says nothing, out of memory perhaps); the same command resumes where it stopped"
            )
        if differing := differences(section(stored, "identity"), identity):
            raise TTDError(
                f"{self.path}: a shard of this run has other settings ({'; '.join(differing)})"
            )

    def mask(self, name: str) -> Path:
        """Where the mask of that id is or will be."""
        return self.path / f"{name}.png"

    def scores(self, name: str) -> Path:
        """Where its soft maps are or will be."""
        return self.path / SCORES / f"{name}.npz"

    def has(self, name: str, scores: bool = False) -> bool:
        """Whether the mask of that id is there and whole, and with `scores` its soft maps too."""
        return is_whole(self.mask(name)) and (not scores or self.scores(name).is_file())

    def skip(self, name: str, reason: str, retry: bool = False) -> None:
        """List an image that could not be used; the list is kept sorted and without repetitions.

        retry: it could not be read, which says nothing about what it holds. Either way the next
        run tries it again. Raises TTDError when it cannot be written.
        """
        with write_errors(self.path, ADVICE):
            self._skip(name, {"id": name, "reason": reason} | ({"retry": True} if retry else {}))

    def skipped(self) -> set[str]:
        """Ids of the images that this run could not use, by all of its processes so far."""
        try:
            lines = (self.path / SKIPPED).read_text(encoding="utf-8").split("\n")
        except OSError:
            return set()
        return set(dict(filter(None, map(_entry, lines))))

    def _skip(self, name: str, entry: Mapping[str, object]) -> None:
        with (self.path / SKIPPED).open("a+", encoding="utf-8", errors="backslashreplace") as file:
            wait_for_lock(file)
            file.seek(0)
            entries = dict(filter(None, map(_entry, file.read().split("\n"))))
            entries[name] = json.dumps(entry, ensure_ascii=False)
            file.truncate(0)
            file.write("".join(f"{entries[key]}\n" for key in sorted(entries)))

    def close(self) -> None:
        """Give up the lock."""
        with suppress(OSError):  # of a token that a full disk did not take, which was said
            self._lock.close()


def _entry(line: str) -> tuple[str, str] | None:
    """A line of skipped.jsonl by its id; None for one that a kill or a disk has cut."""
    try:
        name = json.loads(line)["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (name, line) if isinstance(name, str) else None


def is_whole(path: Path) -> bool:
    """Whether a PNG is there to its last byte."""
    try:
        with path.open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def save_scores(path: Path, maps: Maps, classes: Classes, size: tuple[int, int]) -> None:
    """Soft maps float16 [n, H, W] of the classes int16 [n] (indices into the class list).

    Written whole or not at all. OSError when they cannot be written.
    """
    path.parent.mkdir(exist_ok=True)  # not its parents: a folder that is gone stays an error
    with atomic(path) as part, part.open("wb") as file:
        np.savez_compressed(file, maps=maps, classes=classes, size=np.asarray(size))


def load_scores(path: Path) -> tuple[Maps, Classes]:
    """Soft maps float16 [n, H, W] and their class indices [n]. TTDError: missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["maps"], archive["classes"]
    except FileNotFoundError:
        raise TTDError(f"{path}: no saved scores; make the masks with --save-scores") from None
    except Exception as error:  # a damaged archive raises a dozen kinds of error
        if is_away(error):
            raise UnreadableError(f"{path}: cannot be read ({error})") from None
        raise TTDError(
            f"{path}: damaged; delete it and make the masks again with --save-scores"
        ) from None


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON."""
    values: dict[str, Any] = json.loads(json.dumps(identity))
    return values


def _prepare(
    path: Path,
    meta: Mapping[str, Any],
    token: str,
    overwrite: bool,
    inputs: Callable[[], Inputs] | None,
) -> None:
    """Check what is there against `meta`, or empty the folder; then write protocol.json."""
    stored = read_json(path / META)
    differing = differences(section(stored, "identity"), _plain(meta["identity"]))
    same = stored is not None and not differing
    # Another shard of this run may have come and gone before us.
    ours = same and stored is not None and stored.get("run") == token
    if overwrite and not ours:
        _empty(path)
    elif not same:
        _refuse(path, stored, meta)
    if inputs is not None and not ours:
        own = inputs()
        if any(path.glob("*.png")):
            check_inputs(path / INPUTS, own, path)
        own.save(path / INPUTS)
    for part in [*path.glob(".*.part"), *path.glob(f"{SCORES}/.*.part")]:
        part.unlink()
    if not ours:
        (path / SKIPPED).unlink(missing_ok=True)
        write_json(path / META, {**meta, "run": token})


def _refuse(path: Path, stored: dict[str, Any] | None, meta: Mapping[str, Any]) -> None:
    """TTDError where masks are there that another identity made; nothing where there are none."""
    if not any(path.glob("*.png")):
        return
    if stored is None:
        raise TTDError(
            f"{path}: masks are there {without(path / META)}, so what made them is not known; "
            "move them away, choose another --out or add --overwrite"
        )
    differing = "; ".join(differences(section(stored, "identity"), _plain(meta["identity"])))
    raise TTDError(
        f"{path} was made with other settings ({differing}): choose another --out or add "
        "--overwrite"
    )


def _empty(path: Path) -> None:
    """Remove what a run writes, protocol.json first.

    A kill in between must not make old masks look like ours.
    """
    (path / META).unlink(missing_ok=True)
    for file in [*path.glob("*.png"), *path.glob(f"{SCORES}/*.npz"), path / "rle.json"]:
        file.unlink(missing_ok=True)
    shutil.rmtree(path / EXPORT, ignore_errors=True)


def _open_lock(path: Path) -> IO[str]:
    with write_errors(path, ADVICE):
        path.mkdir(parents=True, exist_ok=True)
        return (path / LOCK).open("a+", encoding="utf-8")


def _write_token(lock: IO[str], token: str) -> None:
    lock.seek(0)
    lock.truncate()
    lock.write(token)
    lock.flush()


def _join(lock: IO[str], token: str, path: Path) -> None:
    """Share the lock with the processes of our run. TTDError when it is another's."""
    deadline = time.monotonic() + WAIT
    while not (shared := try_lock(lock, exclusive=False)) and time.monotonic() < deadline:
        time.sleep(0.05)  # somebody is preparing the folder
        lock.seek(0)
        if lock.read() == token:  # one of us, who may have many files to look at
            deadline = time.monotonic() + WAIT
    lock.seek(0)
    if not shared or lock.read() != token:
        raise TTDError(
            f"{path}: another run is writing this result; wait for it, or choose another --out"
        )
