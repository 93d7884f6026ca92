"""PAMR's compiled kernel on disk: made once per machine, loaded only when it is what we stored.

What is loaded runs, so the cache is trusted only where nobody else can write: its folder and the
file must belong to this user and be writable by no other. The file ends in the length and the hash
of the library; what does not agree (a full disk, a copy that broke off) is compiled again. The
bytes that were checked are the bytes that are loaded, whatever happens to the file in between: a
library that is cut while it is mapped would end the process (SIGBUS).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path

from ..utils.cache import cache_folder, make_private
from ..utils.files import atomic

SOURCE = Path(__file__).with_name("pamr.c")
FLAGS = (
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-std=gnu11",
    "-shared",
    "-fPIC",
)
COMPILERS = ("cc", "gcc", "clang")
COMPILE_SECONDS = 60
FORMAT = 2  # of the stored file; raise it when its form changes
MARK = b"\nTTD-PAMR "  # then the length, 16 digits, and the SHA-256 in hexadecimal
TAIL = len(MARK) + 16 + 64
MOST_BYTES = 1 << 24  # a library has about 30,000
READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(Exception):
    """A cache that others may have written to."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel, from the cache or made now (about a second).

    None where there is no working compiler, and, with a warning, where the cache is not to be
    trusted or the library cannot be loaded.
    """
    command = shlex.split(os.environ.get("CC", "")) or [next(filter(shutil.which, COMPILERS), "")]
    folder, compiler = cache_folder(), shutil.which(command[0])
    if not folder or not compiler or not hasattr(os, "geteuid"):
        return None
    try:
        tuned = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
        name = f"pamr-{_key(command, compiler, tuned)}.so"
        stored = read_library(folder, name)
        if stored is None:
            stored = _compile([*command, *FLAGS, tuned, str(SOURCE)])
            _store(folder / name, stored)
    except Untrusted as problem:
        _warn(f"{problem}; make it yours alone (chmod 700) or delete it")
        return None
    except (OSError, subprocess.SubprocessError):
        return None
    return _load(stored)


def read_library(folder: Path, name: str) -> bytes | None:
    """The library stored as `name` in `folder`, or None where it is absent or damaged.

    Untrusted: the folder or the file is another user's, can be written by others, or is no folder
    or no regular file. OSError: cannot be read.
    """
    try:
        within = os.open(folder, READ | os.O_DIRECTORY)  # follows a link that the user has made
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise Untrusted(f"{folder} is no folder") from None
    try:
        _check_owner(os.fstat(within), folder)
        # Within the folder that was checked, and without waiting for the writer of a pipe.
        file = os.open(name, READ | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=within)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Untrusted(f"{folder / name} cannot be opened ({error.strerror})") from None
    finally:
        os.close(within)
    try:
        return unsealed(_trusted_bytes(file, folder / name))
    finally:
        os.close(file)


def _trusted_bytes(file: int, path: Path) -> bytes:
    """What an open file holds. Untrusted as `read_library`."""
    found = os.fstat(file)
    _check_owner(found, path)
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(f"{path} is no regular file")
    with open(file, "rb", closefd=False) as stream:
        return stream.read(MOST_BYTES)


def _check_owner(found: os.stat_result, path: Path) -> None:
    """Untrusted unless `path` belongs to this user and no other can write to it."""
    if found.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to another user")
    if found.st_mode & OTHERS_WRITE:
        raise Untrusted(f"{path} can be written by other users")


def sealed(library: bytes) -> bytes:
    """A library with its length and hash behind it."""
    return library + MARK + f"{len(library):016d}{hashlib.sha256(library).hexdigest()}".encode()


def unsealed(content: bytes) -> bytes | None:
    """The library in what `sealed` gave; None when a byte is missing, added or changed."""
    library = content[:-TAIL]
    return library if library and sealed(library) == content else None


def _key(command: list[str], compiler: str, tuned: str) -> str:
    """What the kernel was made from and for.

    Code made for one processor stops another with an illegal instruction, and homes are shared
    between machines. OSError when the compiler cannot be looked at.
    """
    changed = os.stat(compiler).st_mtime
    parts = (FORMAT, SOURCE.read_bytes(), command, compiler, changed, FLAGS, tuned, _processor())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What code for this processor may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.version()}"
    names = ("flags", "Features", "model", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(names)}))


def _compile(command: list[str]) -> bytes:
    """The shared library that the compiler makes. OSError, SubprocessError: it failed."""
    with tempfile.TemporaryDirectory() as private:  # mode 0700
        made = Path(private) / "pamr.so"
        subprocess.run(
            [*command, "-o", str(made), "-lm"],
            check=True,
            capture_output=True,
            timeout=COMPILE_SECONDS,
        )
        return made.read_bytes()


def _store(path: Path, library: bytes) -> None:
    """Keep a library, whole or not at all; a cache that cannot be written is no error."""
    try:
        make_private(path.parent)
        with atomic(path, shared=True) as part:
            part.touch(mode=0o600)
            part.write_bytes(sealed(library))
    except OSError:
        return


def _load(library: bytes) -> ctypes.CDLL | None:
    """The library of exactly these bytes; None, with a warning, where it cannot be loaded."""
    try:
        if hasattr(os, "memfd_create"):
            # Kept open: a second library under the same number would be taken for the first.
            file = os.memfd_create("pamr")
            with open(file, "wb", closefd=False) as stream:
                stream.write(library)
            return ctypes.CDLL(f"/proc/self/fd/{file}")
        with tempfile.TemporaryDirectory() as private:
            copy = Path(private) / "pamr.so"
            copy.write_bytes(library)
            return ctypes.CDLL(str(copy))
    except OSError as error:
        _warn(f"it cannot be loaded ({' '.join(str(error).split())[:120]})")
        return None


def _warn(reason: str) -> None:
    warnings.warn(f"PAMR's compiled kernel is not used: {reason}", stacklevel=3)
