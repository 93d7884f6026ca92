"""Archives of three files, and what lies in a folder."""

import io
import tarfile
import zipfile

FILES = {"VOC/a.txt": b"first", "VOC/deep/b.bin": bytes(70_000), "./c": b"third"}


def zipped(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("VOC/", b"")
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def tarred(path, files=FILES, mode="w"):
    with tarfile.open(path, mode) as packed:
        folder = tarfile.TarInfo("VOC")
        folder.type = tarfile.DIRTYPE
        packed.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def content(folder):
    """What lies in a folder, without the marks."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".unpacked" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


EXPECTED = {name.removeprefix("./"): data for name, data in FILES.items()}
