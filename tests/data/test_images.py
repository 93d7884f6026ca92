"""Reading any image file: right pixels or one clear line.

Oracles: closed forms, NumPy, OpenCV.
"""

import os
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from core.data.images import decode_image, read_image
from core.errors import TTDError

RNG = np.random.default_rng(0)
# no symmetry: a wrong turn or channel order shows
PICTURE = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def one_line(path):
    """The message of the error that reading `path` raises: one line that names the file."""
    with pytest.raises(TTDError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message and os.path.basename(path) in message
    return message


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "gif"])
def test_lossless_formats_give_the_pixels_that_were_stored(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    image = read_image(save(tmp_path / f"a.{suffix}", PICTURE, **options))
    assert image.dtype == np.uint8 and image.flags.writeable
    np.testing.assert_array_equal(image, PICTURE)


def test_jpeg_channel_order_agrees_with_opencv(tmp_path):
    path = save(tmp_path / "a.jpg", np.kron(PICTURE, np.ones((16, 16, 1), np.uint8)), quality=95)
    difference = read_image(path).astype(int) - cv2.imread(str(path))[..., ::-1]
    assert np.abs(difference).max() <= 2


UPRIGHT = {  # what EXIF says about how the stored array must be turned, written with NumPy
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", PICTURE, exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), UPRIGHT[orientation](PICTURE))


def test_orientation_of_16_bit_grey(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", np.array([[0, 65535, 257]], np.uint16), exif=exif)
    np.testing.assert_array_equal(read_image(path)[..., 0], [[0], [255], [1]])


def test_damaged_exif_leaves_the_picture_as_stored(tmp_path):
    path = save(tmp_path / "a.png", PICTURE, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    np.testing.assert_array_equal(read_image(path), PICTURE)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 1000).astype(np.uint16)[None]
    image = read_image(save(tmp_path / f"a.{suffix}", ramp))
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], np.round(ramp / 257))


def test_16_bit_colour_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 300).astype(np.uint16).reshape(10, 10, 3)
    cv2.imwrite(str(tmp_path / "a.png"), ramp[..., ::-1])
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), ramp / 257, atol=1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 51.0, 255.0], [0, 51, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [7, 7, 7]),
        ([np.nan, 0.0, 1.0], [0, 0, 255]),
    ],
)
def test_float_tiff_uses_the_range_it_fits(tmp_path, values, expected):
    image = read_image(save(tmp_path / "a.tiff", np.array([values], np.float32)))
    np.testing.assert_array_equal(image[0, :, 0], expected)


def test_cmyk_jpeg_of_known_colours(tmp_path):
    inks = {
        (0, 0, 0, 0): (255, 255, 255),
        (255, 0, 0, 0): (0, 255, 255),
        (0, 255, 0, 0): (255, 0, 255),
        (0, 0, 255, 0): (255, 255, 0),
        (0, 0, 0, 255): (0, 0, 0),
    }
    for ink, colour in inks.items():
        Image.new("CMYK", (16, 16), ink).save(tmp_path / "a.jpg", quality=100)
        np.testing.assert_allclose(
            read_image(tmp_path / "a.jpg"), np.broadcast_to(colour, (16, 16, 3)), atol=3
        )


def test_transparency_is_on_white(tmp_path):
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8)
    expected = np.array(
        [[[200, 0, 0], [255, 255, 255], [244, 204, 204]]]
    )  # 255 + (c - 255) * 51 / 255
    np.testing.assert_allclose(read_image(save(tmp_path / "a.png", pixels)), expected, atol=1)
    grey = read_image(save(tmp_path / "b.png", np.array([[[100, 255], [100, 0]]], np.uint8)))
    np.testing.assert_array_equal(grey[0, :, 0], [100, 255])


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[10, 20, 30], [40, 50, 60]]])
    image.save(tmp_path / "b.png", transparency=1)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), [[[10, 20, 30], [255, 255, 255]]])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_animated_pictures_give_their_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_allclose(
        read_image(tmp_path / f"a.{suffix}"), np.broadcast_to([255, 0, 0], (4, 6, 3)), atol=2
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_odd_shapes(tmp_path, shape):
    array = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", array)), array)


def test_large_pictures_read_without_a_warning_and_bombs_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", PICTURE)
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 20
    )  # 35 pixels: Pillow warns above 20, refuses above 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == PICTURE.shape
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert "smaller" in one_line(path)


@pytest.mark.slow
def test_twenty_megapixels(tmp_path):
    Image.new("RGB", (5472, 3648), (10, 200, 30)).save(tmp_path / "a.jpg")
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (3648, 5472, 3) and np.abs(image.astype(int) - (10, 200, 30)).max() <= 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
def test_truncated_files_are_one_line(tmp_path, suffix):
    whole = save(
        tmp_path / f"whole.{suffix}", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ).read_bytes()
    for part in (0.02, 0.3, 0.6, 0.9):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole[: int(len(whole) * part)])
        one_line(path)
    path.write_bytes(whole[: len(whole) // 2])
    if suffix in ("jpg", "png"):
        assert "truncated" in one_line(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff"])
def test_damaged_bytes_never_give_anything_but_a_picture_or_one_line(tmp_path, suffix):
    whole = save(
        tmp_path / f"whole.{suffix}", RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    ).read_bytes()
    rng, path = np.random.default_rng(1), tmp_path / f"bad.{suffix}"
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 400), 4):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert read_image(path).ndim == 3
        except TTDError as error:
            assert "\n" not in str(error) and path.name in str(error)


def test_what_is_no_picture_is_one_line(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert "empty" in one_line(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    assert "not an image" in one_line(tmp_path / "text.jpg")
    assert "no such file" in one_line(tmp_path / "missing.jpg")
    assert "folder" in one_line(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "regular file" in one_line(tmp_path / "pipe")
    for name in ("x" * 5000, "nul\0byte"):
        with pytest.raises(TTDError):
            read_image(name)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_no_permission_is_one_line(tmp_path):
    path = save(tmp_path / "a.png", PICTURE)
    path.chmod(0)
    assert "permission" in one_line(path)


def test_pictures_in_memory_are_read_alike(tmp_path):
    path = save(tmp_path / "a.png", PICTURE)
    np.testing.assert_array_equal(decode_image(path.read_bytes(), "shard.tar/a.png"), PICTURE)
    for data in (b"", b"text", path.read_bytes()[:60]):
        with pytest.raises(TTDError, match=r"shard\.tar/a\.png"):
            decode_image(data, "shard.tar/a.png")


def test_formats_that_start_programs_are_not_opened(tmp_path, monkeypatch):
    """EPS, which Pillow hands to Ghostscript, under the name of a photograph."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program ran"))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("it ran"))
    eps = tmp_path / "photo.jpg"
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(TTDError, match="not an image"):
        read_image(eps)


def test_declared_pixels_are_capped(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", np.zeros((1000, 2000, 3), np.uint8))
    monkeypatch.setenv("TTD_MAX_MEGAPIXELS", "1.5")
    with pytest.raises(TTDError, match="more than 1.5 million pixels .2000x1000.*TTD_MAX"):
        read_image(path)
    monkeypatch.setenv("TTD_MAX_MEGAPIXELS", "2")
    assert read_image(path).shape == (1000, 2000, 3)
    monkeypatch.setenv("TTD_MAX_MEGAPIXELS", "many")
    with pytest.raises(TTDError, match="TTD_MAX_MEGAPIXELS=many"):
        read_image(path)


def test_twelve_bits_in_sixteen_are_scaled_by_their_depth(tmp_path):
    ramp = np.linspace(0, 4095, 256).astype(np.uint16)[None]
    read = read_image(save(tmp_path / "a.png", ramp))
    assert np.abs(read[0, :, 0].astype(int) - np.arange(256)).max() <= 1
