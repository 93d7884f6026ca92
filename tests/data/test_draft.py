"""JPEG decoded at a reduced scale, on demand: large enough, upright, its own size known."""

import io

import numpy as np
import pytest
from PIL import Image

from core.data.images import decode_reduced
from core.maps.views import Views


def encoded(size, kind="JPEG", orientation=None):
    """Smooth colours of (width, height), encoded."""
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    data = io.BytesIO()
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    image.save(data, kind, exif=exif.tobytes() if orientation else b"")
    return data.getvalue()


@pytest.mark.parametrize(
    ("size", "side", "factor"),
    [((640, 480), 224, 2), ((640, 480), 240, 2), ((640, 480), 241, 1), ((2000, 2000), 224, 8)],
)
def test_the_smallest_scale_that_is_not_below_the_target(size, side, factor):
    data, views = encoded(size), Views(side)
    small, own = decode_reduced(data, "x.jpg", views.largest, draft=True)
    assert own == (size[1], size[0])
    assert small.shape[:2] == (size[1] // factor, size[0] // factor)
    whole, _ = decode_reduced(data, "x.jpg", views.largest)
    assert whole.shape[:2] == own
    again = Image.fromarray(whole).resize(small.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(np.asarray(again).astype(int) - small).mean() < 3


def test_a_turned_image_stays_upright():
    data = encoded((640, 480), orientation=6)
    small, own = decode_reduced(data, "x.jpg", Views(224).largest, draft=True)
    assert own == (640, 480) and small.shape[:2] == (320, 240)


@pytest.mark.parametrize("draft", [False, True])
def test_png_is_never_reduced(draft):
    data = encoded((640, 480), "PNG")
    assert decode_reduced(data, "x.png", Views(64).largest, draft=draft)[0].shape == (480, 640, 3)
