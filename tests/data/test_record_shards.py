"""Webdataset shards as people make them: order, names, damage."""

import tarfile

from small_records import listed, picture, summary, tar

from core.data.records import Record, Skipped, read_record


def test_shards_in_name_order_with_pictures_read_from_inside(tmp_path):
    first = {
        "000.jpg": picture(1),
        "000.txt": b"zero",
        "000.json": b'{"caption": "not this"}',
        "001.txt": b"no picture here",
        "002.png": picture(3),
        "002.json": b'{"caption": "two"}',
    }
    second = {
        "d/003.webp": picture(4),
        "d/003.txt": "drei ß".encode(),
        "004.jpg": picture(5),
        "004.txt": b" \n",
    }
    tar(tmp_path / "s/00001.tar", second)
    tar(tmp_path / "s/00000.tar", first)
    expected = [
        ("000", "zero"),
        (
            "001",
            "no image in 00000.tar among 001.txt; the files of a record must be adjacent and "
            "alike up to the first dot",
        ),
        ("002", "two"),
        ("d/003", "drei ß"),
        ("004", "empty caption"),
    ]
    for root in (tmp_path / "s", str(tmp_path / "s/*.tar"), str(tmp_path / "s/{00000..00001}.tar")):
        items = listed(root)
        assert summary(items) == expected and [item.index for item in items] == list(range(5))
    assert [int(read_record(items[i])[0, 0, 0]) for i in (0, 2, 3)] == [1, 3, 4]
    assert items[3].name == "00001.tar/d/003.webp"
    assert summary(listed(tmp_path / "s/00000.tar")) == expected[:3]


def test_a_name_of_a_shard_ends_at_its_first_dot(tmp_path):
    """Folders may have dots; what follows the first one of a name is its kind, in any case."""
    files = {"v1.0/005.JPG": picture(9), "v1.0/005.mask.jpg": picture(1), "v1.0/005.TXT": b"five"}
    (item,) = listed(tar(tmp_path / "0.tar", files))
    assert (item.id, item.text, int(read_record(item)[0, 0, 0])) == ("v1.0/005", "five", 9)


def test_a_truncated_shard_ends_with_a_line_that_says_so(tmp_path):
    path = tar(
        tmp_path / "0.tar", {f"{i}.{end}": b"x" * 600 for i in range(3) for end in ("jpg", "txt")}
    )
    path.write_bytes(path.read_bytes()[:2700])
    items = listed(path)
    assert [type(item) for item in items] == [Record, Skipped] and "damaged" in items[-1].reason


def test_a_compressed_shard_is_refused_by_name(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    assert "compressed" in listed(tmp_path / "0.tar")[0].reason


def test_shards_as_people_make_them(tmp_path):
    """AppleDouble files, unsorted members, dots in names, two images: read or skipped by name."""
    mac = {"._0.jpg": b"x", "0.jpg": picture(1), "._0.txt": b"x", "0.txt": b"zero"}
    assert summary(listed(tar(tmp_path / "mac.tar", mac))) == [("0", "zero")]
    unsorted = {"0.jpg": picture(1), "1.jpg": picture(2), "0.txt": b"a", "1.txt": b"b"}
    items = listed(tar(tmp_path / "unsorted.tar", unsorted))
    assert len(items) == 4 and all("must be adjacent" in item.reason for item in items)
    dotted = {f"a.{k}.{kind}": picture(k) for k in (0, 1) for kind in ("jpg", "txt")}
    (item,) = listed(tar(tmp_path / "dotted.tar", dotted))
    assert "up to the first dot" in item.reason
    two = {"0.jpg": picture(1), "0.png": picture(2), "0.txt": b"a"}
    (item,) = listed(tar(tmp_path / "two.tar", two))
    assert "several images" in item.reason and ".jpg and .png" in item.reason


def test_a_header_with_a_size_beyond_the_file(tmp_path):
    path = tar(tmp_path / "a.tar", {"0.jpg": picture(1), "0.txt": b"a"})
    info = tarfile.TarInfo("1.jpg")
    info.size = 1 << 40
    whole = path.read_bytes()
    path.write_bytes(whole[:2048] + info.tobuf() + b"x" * 512)
    assert all(isinstance(item, Skipped) for item in listed(path)[-1:])
