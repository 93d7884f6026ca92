"""The compiled library in the cache: whose it is, and whether it is whole."""

import os
import shutil
import stat

import pytest
import torch

from core.refine import pamr_library
from core.refine.pamr import PAMR, _works
from core.refine.pamr_library import Untrusted, read_library, sealed, unsealed

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners are POSIX's")
needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
NAME = "pamr-x.so"


@pytest.fixture
def stored(tmp_path):
    """A cache folder with a file as `_store` leaves it."""
    folder = tmp_path / "cache"
    pamr_library._store(folder / NAME, b"library")
    return folder


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache in which the kernel was compiled."""
    folder = tmp_path_factory.mktemp("made") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTD_CACHE", str(folder))
        _forget()
        assert _way() == "native"
    _forget()
    return folder


@pytest.fixture
def cache(compiled, tmp_path, monkeypatch):
    """A copy of it, not loaded yet, and no compiler call that succeeds."""
    folder = tmp_path / "cache"
    shutil.copytree(compiled, folder)
    monkeypatch.setenv("TTD_CACHE", str(folder))
    _forget()
    yield folder
    _forget()


def _forget():
    pamr_library.library.cache_clear()
    _works.cache_clear()


def _way():
    return PAMR(pictures=10**6).path(torch.device("cpu"), 21)


def _compiling_fails(monkeypatch):
    def fail(command):
        raise OSError("compiled again")

    monkeypatch.setattr(pamr_library, "_compile", fail)


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_stored_is_this_users_alone(stored):
    old = os.umask(0)
    try:
        pamr_library._store(stored.parent / "own" / "deep" / NAME, b"library")
    finally:
        os.umask(old)
    for folder in (stored, stored.parent / "own", stored.parent / "own" / "deep"):
        assert _mode(folder) == 0o700
    assert _mode(stored / NAME) == _mode(stored.parent / "own" / "deep" / NAME) == 0o600
    assert read_library(stored, NAME) == b"library"
    assert read_library(stored, "other.so") is read_library(stored / "none", NAME) is None
    assert [file.name for file in stored.iterdir()] == [NAME]


def test_every_cut_and_every_changed_byte_is_noticed():
    whole = sealed(bytes(range(50)))
    assert unsealed(whole) == bytes(range(50))
    for length in range(len(whole)):
        assert unsealed(whole[:length]) is None
        assert unsealed(whole[:length] + bytes([whole[length] ^ 1]) + whole[length + 1 :]) is None
    assert unsealed(whole + b"\0") is unsealed(whole * 2) is unsealed(sealed(b"")) is None


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_or_file_that_others_can_write_is_not_read(stored, mode):
    (stored / NAME).chmod(mode)
    with pytest.raises(Untrusted, match=f"{NAME} can be written by other users"):
        read_library(stored, NAME)
    (stored / NAME).chmod(0o755)  # read by others: no harm
    assert read_library(stored, NAME) == b"library"
    stored.chmod(mode)
    with pytest.raises(Untrusted, match="cache can be written by other users"):
        read_library(stored, NAME)


def test_a_folder_or_file_of_another_user_is_not_read(stored, monkeypatch):
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(Untrusted, match="cache belongs to another user"):
        read_library(stored, NAME)
    monkeypatch.undo()
    real = os.fstat

    def foreign(file):
        found = real(file)
        if stat.S_ISDIR(found.st_mode):
            return found
        return os.stat_result((*found[:4], mine + 1, *found[5:]))

    monkeypatch.setattr(os, "fstat", foreign)
    with pytest.raises(Untrusted, match=f"{NAME} belongs to another user"):
        read_library(stored, NAME)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_root_does_not_trust_the_files_of_others(stored):
    os.chown(stored / NAME, 12345, -1)
    with pytest.raises(Untrusted, match=f"{NAME} belongs to another user"):
        read_library(stored, NAME)
    os.chown(stored, 12345, -1)
    with pytest.raises(Untrusted, match="cache belongs to another user"):
        read_library(stored, NAME)


def test_links_pipes_and_folders(stored, tmp_path):
    """A link to the cache folder is common (homes are small); the file itself is no link."""
    (tmp_path / "link").symlink_to(stored)
    assert read_library(tmp_path / "link", NAME) == b"library"
    (stored / "link.so").symlink_to(stored / NAME)
    os.mkfifo(stored / "pipe.so")
    (stored / "folder.so").mkdir()
    for name in ("link.so", "pipe.so", "folder.so"):
        with pytest.raises(Untrusted, match=name):
            read_library(stored, name)
    with pytest.raises(Untrusted, match="no folder"):
        read_library(stored / NAME, NAME)
    stored.chmod(0o777)
    with pytest.raises(Untrusted, match="other users"):
        read_library(tmp_path / "link", NAME)


@needs_compiler
def test_the_stored_library_is_used_without_the_compiler(cache, monkeypatch):
    _compiling_fails(monkeypatch)
    assert _way() == "native"


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "longer", "unsealed"])
def test_a_damaged_library_is_made_again(cache, monkeypatch, damage):
    """Loaded as it is, most of these end the process: SIGBUS or SIGSEGV."""
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    half = len(whole) // 2
    changed = {
        "cut": whole[:half],
        "empty": b"",
        "changed": whole[:half] + bytes(64) + whole[half + 64 :],
        "longer": whole + b"\0",
        "unsealed": whole[:4096] + b"\0" * half,
    }
    file.write_bytes(changed[damage])
    library = unsealed(whole)
    calls = []

    def compile_again(command):
        calls.append(command)
        return library

    monkeypatch.setattr(pamr_library, "_compile", compile_again)
    assert _way() == "native" and len(calls) == 1
    assert file.read_bytes() == whole and [one.name for one in cache.iterdir()] == [file.name]


@needs_compiler
def test_a_file_that_is_cut_after_the_load_does_not_end_the_process(cache):
    image, mask = torch.rand(1, 3, 9, 7), torch.rand(1, 5, 9, 7)
    pamr = PAMR(2, pictures=10**6)
    assert _way() == "native"
    (file,) = cache.iterdir()
    with file.open("r+b") as stream:
        stream.truncate(0)
    torch.testing.assert_close(pamr(image, mask), PAMR(2)(image, mask), atol=1e-5, rtol=0)


@needs_compiler
@pytest.mark.parametrize("open_to_others", ["folder", "file"])
def test_a_cache_of_others_means_the_plain_path_and_one_warning(
    cache, monkeypatch, open_to_others, recwarn
):
    _compiling_fails(monkeypatch)
    (file,) = cache.iterdir()
    chosen = cache if open_to_others == "folder" else file
    chosen.chmod(0o777)
    assert [_way(), _way()] == ["gathered"] * 2
    (warning,) = recwarn.list
    text = str(warning.message)
    assert f"{chosen} can be written by other users" in text and "chmod 700" in text


@needs_compiler
def test_a_cache_that_cannot_be_written_is_no_error(cache, monkeypatch):
    (file,) = cache.iterdir()
    library = unsealed(file.read_bytes())
    monkeypatch.setenv("TTD_CACHE", str(file / "below_a_file"))
    monkeypatch.setattr(pamr_library, "_compile", lambda command: library)
    monkeypatch.setattr(pamr_library, "read_library", lambda folder, name: None)
    assert _way() == "native"


@needs_compiler
def test_what_cannot_be_loaded_means_the_plain_path_and_a_warning(cache, monkeypatch):
    (file,) = cache.iterdir()
    file.write_bytes(sealed(b"\x7fELF of another machine"))
    with pytest.warns(UserWarning, match="not used: it cannot be loaded"):
        assert _way() == "gathered"


@needs_compiler
def test_processes_that_store_at_once_leave_one_whole_file(stored):
    from concurrent.futures import ThreadPoolExecutor

    libraries = [bytes([i]) * 50_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: pamr_library._store(stored / NAME, one), libraries * 4))
    assert read_library(stored, NAME) in libraries
    assert [file.name for file in stored.iterdir()] == [NAME]
