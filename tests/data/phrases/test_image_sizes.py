"""Sizes of images from their headers: right, wrong, turned by EXIF, cut off, not there."""

import pytest
from PIL import Image

from core.data.phrases.image_sizes import wrong_sizes


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_sizes_are_those_of_the_upright_image(tmp_path, ending):
    exif = Image.Exif()
    exif[0x0112] = 8  # a quarter turn
    plain, turned = tmp_path / f"plain.{ending}", tmp_path / f"turned.{ending}"
    Image.new("RGB", (30, 20)).save(plain)
    Image.new("RGB", (30, 20)).save(turned, exif=exif)
    assert wrong_sizes({plain: {(20, 30)}, turned: {(30, 20)}}) == []
    assert wrong_sizes({plain: {(30, 20)}, turned: {(20, 30)}}) == [
        f"{plain} has 20 x 30 pixels, the annotations say 30 x 20",
        f"{turned} has 30 x 20 pixels, the annotations say 20 x 30",
    ]


def test_exif_behind_the_pixels_of_a_png(tmp_path):
    """Where seldom one looks: only an image that seems wrong is decoded for it."""
    exif = Image.Exif()
    exif[0x0112] = 8
    path = tmp_path / "late.png"
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    path.write_bytes(data[:start] + data[end:last] + data[start:end] + data[last:])
    assert wrong_sizes({path: {(30, 20)}}) == []
    assert wrong_sizes({path: {(40, 20)}}) == [
        f"{path} has 30 x 20 pixels, the annotations say 40 x 20"
    ]


def test_annotations_that_differ_among_themselves(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (said,) = wrong_sizes({tmp_path / "a.png": {(20, 30), (40, 60)}})
    assert said.endswith("the annotations say 40 x 60")


def test_headers_suffice_and_what_has_none_is_left_to_reading(tmp_path):
    """A PNG without its pixels is told by its header; looking for EXIF would have decoded it."""
    Image.effect_noise((300, 200), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:100])
    (tmp_path / "none.png").write_bytes(b"no image")
    files = [tmp_path / name for name in ("cut.png", "none.png", "missing.png")]
    seen = []
    (said,) = wrong_sizes({path: {(1, 1)} for path in files}, seen.append)
    assert "cut.png has 200 x 300 pixels" in said and sum(seen) == 3
