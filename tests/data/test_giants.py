"""Images of very many pixels: reduced where they are looked at small, and still in their place."""

import numpy as np
import pytest
import torch
from PIL import Image

from core.data import images
from core.data.images import read_image, read_reduced
from core.maps.views import Views, prepare


@pytest.fixture(autouse=True)
def small_giants(monkeypatch):
    """1 megapixel is a giant here, and bands have a few rows."""
    monkeypatch.setattr(images, "GIANT", 1.0)
    monkeypatch.setattr(images, "BAND", 30_000)


def scene(width, height):
    """Smooth colours with a bright spot at 3/4 of the width, 1/4 of the height."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    spot = np.exp(-((x - 0.75) ** 2 + (y - 0.25) ** 2) * 200)
    return (np.stack([120 * x + 120 * spot, 100 * y, 60 + 0 * x], -1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("ending", "options"), [("png", {}), ("jpg", {"quality": 95}), ("webp", {"quality": 95})]
)
def test_a_reduced_image_is_the_image(tmp_path, ending, options):
    views, pixels = Views(64, (1.0, 0.5)), scene(1501, 1003)
    Image.fromarray(pixels).save(tmp_path / f"x.{ending}", **options)
    small, size = read_reduced(tmp_path / f"x.{ending}", views.largest)
    assert size == (1003, 1501) and small.shape[0] <= 128
    found, want = prepare(small, views, size), prepare(read_image(tmp_path / f"x.{ending}"), views)
    assert found.size == want.size and found.shapes == want.shapes
    for one, other in zip(found.scaled, want.scaled, strict=True):
        assert (one - other).abs().max() < 0.03 and (one - other).abs().mean() < 0.004
        assert torch.equal(*(v[0].flatten().argmax() for v in (one, other))) or (
            abs(int(one[0].argmax()) - int(other[0].argmax())) <= one.shape[-1] + 1
        )


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_turned_giant_is_upright(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{ending}"
    Image.fromarray(scene(1501, 1003)).save(path, exif=exif)
    views = Views(64)
    small, size = read_reduced(path, views.largest)
    whole = read_image(path)
    assert size == whole.shape[:2]
    found, want = prepare(small, views, size).scaled[0], prepare(whole, views).scaled[0]
    assert found.shape == want.shape and (found - want).abs().mean() < 0.01


def test_images_below_the_bound_are_untouched(tmp_path):
    pixels = scene(300, 200)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found, size = read_reduced(tmp_path / "x.png", Views(16).largest)
    assert np.array_equal(found, pixels) and size == (200, 300)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "F"])
def test_bands_are_the_whole(tmp_path, monkeypatch, mode):
    """Converted some rows at a time or at once: the same bytes."""
    pixels = scene(300, 250)
    image = Image.fromarray(pixels)
    if mode in ("I;16", "F"):
        image = Image.fromarray(pixels[..., 0].astype(np.uint16 if mode == "I;16" else "f4") * 37)
    elif mode != "P":
        image = image.convert(mode)
        image.putalpha(Image.fromarray(pixels[..., 1]))
    path = tmp_path / ("x.tif" if mode == "F" else "x.png")
    image.convert("P").save(path, transparency=3) if mode == "P" else image.save(path)
    found = read_image(path)
    monkeypatch.setattr(images, "BAND", 10**9)
    assert np.array_equal(found, read_image(path))


def test_one_giant_at_a_time(tmp_path, monkeypatch):
    Image.fromarray(scene(1501, 1003)).save(tmp_path / "x.png")
    held = []
    convert = images._to_rgb
    monkeypatch.setattr(
        images, "_to_rgb", lambda image: held.append(images.ONE_GIANT.locked()) or convert(image)
    )
    read_reduced(tmp_path / "x.png", Views(64).largest)
    read_image(tmp_path / "x.png")
    assert all(held) and not images.ONE_GIANT.locked()
    (tmp_path / "y.png").write_bytes((tmp_path / "x.png").read_bytes()[:3000])
    with pytest.raises(images.TTDError):
        read_image(tmp_path / "y.png")
    assert not images.ONE_GIANT.locked()
