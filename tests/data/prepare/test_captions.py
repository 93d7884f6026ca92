"""CC3M and CC12M as img2dataset leaves them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from small_releases import make, picture

from core.data.prepare.captions import flat_id
from core.data.records import open_records

SIZE = (5, 7)
rng = np.random.default_rng(0)


def shard(path: Path, pairs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, ending, data in pairs:
            info = tarfile.TarInfo(f"{key}.{ending}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_shards_of_img2dataset(tmp_path):
    data = [jpeg() for _ in range(3)]
    meta = json.dumps({"caption": "not this one", "url": "x"}).encode()
    shard(
        tmp_path / "s/00000.tar",
        [
            ("000000000", "jpg", data[0]),
            ("000000000", "json", meta),
            ("000000000", "txt", b"a dog, asleep"),
            ("000000001", "txt", b"no picture"),
        ],
    )
    shard(
        tmp_path / "s/00001.tar",
        [
            ("000010000", "jpg", data[1]),
            ("000010000", "txt", "ein Fuß".encode()),
            ("000010001", "jpg", data[2]),
            ("000010001", "txt", b"  "),
        ],
    )
    report = make("CC12M", tmp_path / "s", tmp_path / "r", split="train")
    assert report.made == 2 and len(report.failed) == 2
    for reason in ("no image", "empty caption"):
        assert any(reason in line for line in report.failed)
    out = tmp_path / "r/cc12m/train"
    assert (out / "image/000000000.jpg").read_bytes() == data[0]
    assert json.loads((out / "json/000010000.json").read_text(encoding="utf-8")) == {
        "text": "ein Fuß"
    }
    records = list(open_records(out).iterate())
    assert [record.text for record in records] == ["a dog, asleep", "ein Fuß"]


def test_folders_of_img2dataset(tmp_path):
    for key in ("00000/000000003", "00001/000010000"):
        picture(tmp_path / "s" / f"{key}.jpg")
        (tmp_path / "s" / f"{key}.txt").write_text(f"text {key}")
        (tmp_path / "s" / f"{key}.json").write_text(json.dumps({"caption": f"text {key}"}))
    make("CC3M", tmp_path / "s", tmp_path / "r")
    found = sorted(path.name for path in (tmp_path / "r/cc3m/validation/json").iterdir())
    assert found == ["000000003.json", "000010000.json"]
    assert (
        flat_id("00012/000120007") == "000120007"
        and flat_id("x/1") == "x_1"
        and flat_id("7") == "7"
    )
