"""Small inputs of images with captions: files, tars, and what a reader makes of them."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

from core.data.records import Record, open_records


def picture(value=0):
    """A PNG of 2 x 3 pixels of one grey, as bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root, files):
    """Files as {relative name: str, bytes, or something for JSON}."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (
            content
            if isinstance(content, bytes)
            else content
            if isinstance(content, str)
            else json.dumps(content)
        )
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def tar(path, files):
    """An uncompressed tar of {name: bytes}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def listed(root):
    return list(open_records(root).iterate())


def summary(items):
    return [(item.id, item.text if isinstance(item, Record) else item.reason) for item in items]
