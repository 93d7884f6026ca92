"""Archives of releases, and archives that are made to leave their folder, to lie or to burst."""

import os
import tarfile
import zipfile

import pytest
from hostile_tars import member
from small_archives import EXPECTED, content, tarred, zipped

from core.data.download.unpack import unpack
from core.errors import TTDError


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_archive(tmp_path, mode):
    path = tmp_path / "a"
    archive = zipped(path) if mode == "zip" else tarred(path, mode=mode)
    assert unpack(archive, tmp_path / "out") == 3
    assert content(tmp_path / "out") == EXPECTED


@pytest.mark.parametrize("make", [zipped, tarred])
def test_only_what_is_wanted(tmp_path, make):
    assert unpack(make(tmp_path / "a"), tmp_path / "out", ["*/deep/*"]) == 1
    assert list(content(tmp_path / "out")) == ["VOC/deep/b.bin"]
    with pytest.raises(TTDError, match="holds no file that is called nothing/.* another release"):
        unpack(tmp_path / "a", tmp_path / "out2", ["nothing/*"])


def test_what_is_done_is_not_done_again_until_the_archive_changes(tmp_path):
    out = tmp_path / "out"
    unpack(zipped(tmp_path / "a"), out, mark="1")
    (out / "VOC/a.txt").unlink()
    assert unpack(tmp_path / "a", out, mark="1") == 3 and "VOC/a.txt" not in content(out)
    assert unpack(tmp_path / "a", out, mark="2") == 3 and content(out) == EXPECTED


def test_a_stopped_run_is_made_whole(tmp_path, monkeypatch):
    archive, replace, calls = zipped(tmp_path / "a"), os.replace, []

    def stopped(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("core.utils.files.os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    assert list(content(tmp_path / "out")) == ["VOC/a.txt"]
    monkeypatch.setattr("core.utils.files.os.replace", replace)
    unpack(archive, tmp_path / "out")
    assert content(tmp_path / "out") == EXPECTED


LEAVING = ["../x", "/etc/x", "a/../../x", "a\\..\\x", "C:x", "a\0b", "e\x1b[2J", ".unpacked/a.json"]


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_leave_the_folder(tmp_path, name, kind):
    archive = tmp_path / "in" / "a"
    archive.parent.mkdir()
    if kind == "zip" and "\0" in name:
        pytest.skip("zipfile cuts a name there")
    (zipped if kind == "zip" else tarred)(archive, {"fine": b"1", name: b"2"})
    if kind == "tar" and "\0" in name:  # cut there, as by every program
        return
    with pytest.raises(TTDError, match="is not a plain name") as error:
        unpack(archive, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert content(tmp_path / "out") == {"fine": b"1"} and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"]
)
def test_links_and_devices_in_a_tar(tmp_path, kind):
    tar = member("l", type=kind, linkname="/etc/passwd") + member("l/x", b"1") + bytes(1024)
    (tmp_path / "a").write_bytes(tar)
    with pytest.raises(TTDError, match="link, a device|damaged"):
        unpack(tmp_path / "a", tmp_path / "out")
    assert content(tmp_path / "out") == {}


def test_links_and_passwords_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("l")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(TTDError, match="is a link or a device"):
        unpack(tmp_path / "a", tmp_path / "out")
    data = bytearray(zipped(tmp_path / "b").read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag of encryption
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(TTDError, match="locked by a password"):
        unpack(tmp_path / "b", tmp_path / "out")


def test_archives_that_burst(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(20):
            packed.writestr(str(number), bytes(1 << 20))
    with pytest.raises(TTDError, match="unpacks to more than 4194304 bytes"):
        unpack(tmp_path / "a", tmp_path / "out", most=1 << 22)
    huge = tarfile.TarInfo("x")
    huge.size = 1 << 50
    (tmp_path / "b").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
    with pytest.raises(TTDError, match="unpacks to more than"):
        unpack(tmp_path / "b", tmp_path / "out")
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "c").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    with pytest.raises(TTDError, match="damaged"):
        unpack(tmp_path / "c", tmp_path / "out")


@pytest.mark.parametrize("make", [zipped, tarred, lambda p: tarred(p, mode="w:gz")])
def test_damaged_archives(tmp_path, make):
    whole = make(tmp_path / "a").read_bytes()
    for data in (b"", b"<html>", whole[: len(whole) // 2], whole[:9] + b"\xff" * 40 + whole[49:]):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(TTDError) as error:
            unpack(tmp_path / "a", tmp_path / "out")
        assert "\n" not in str(error.value)


def test_a_file_in_the_way_and_no_archive(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "VOC").write_text("a file")
    with pytest.raises(TTDError, match="cannot be unpacked"):
        unpack(zipped(tmp_path / "a"), tmp_path / "out")
    with pytest.raises(TTDError, match="cannot be unpacked"):
        unpack(tmp_path / "none", tmp_path / "out")
