"""Reports are whole or not there, and reach devices, pipes and links."""

import os
import signal
import stat
import threading
from pathlib import Path

import pytest
from limits import limited

from core.utils.outputs import write_out

LONG = b"<html>" + bytes(1 << 20) + b"</html>"


@pytest.mark.parametrize("there", [True, False])
def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, there):
    path = tmp_path / "page.html"
    if there:
        path.write_bytes(b"before")
    with pytest.raises(OSError, match="File too large"), limited(1000):
        write_out(path, LONG)
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"before"] * there


@pytest.mark.parametrize("there", [True, False])
def test_an_interrupt_leaves_what_was_there(tmp_path, there, monkeypatch):
    """When all is written but the name."""
    path = tmp_path / "page.html"
    if there:
        path.write_bytes(b"before")

    def interrupted(*names):
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_out(path, LONG)
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"before"] * there


def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(b"before")
    path.chmod(0o640)
    write_out(path, LONG)
    assert path.read_bytes() == LONG and stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_one(tmp_path):
    """So does /dev/stdout, whatever it leads to."""
    (tmp_path / "link").symlink_to("target")
    write_out(tmp_path / "link", LONG)
    write_out(tmp_path / "link", b"again")
    assert (tmp_path / "target").read_bytes() == b"again" and (tmp_path / "link").is_symlink()
    with open(tmp_path / "out", "wb") as file:
        write_out(Path(f"/dev/fd/{file.fileno()}"), b"said")
    assert (tmp_path / "out").read_bytes() == b"said"


def test_pipes(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device"):
        write_out(pipe, LONG)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    while not read and reader.is_alive():
        try:
            write_out(pipe, LONG)
            break
        except OSError:  # nobody reads yet
            pass
    reader.join()
    assert read == [LONG] and stat.S_ISFIFO(pipe.stat().st_mode)
