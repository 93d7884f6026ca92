"""Sizes and pixels of resized images, against sizes worked out by hand, Pillow and OpenCV."""

import numpy as np
import pytest
import torch
from PIL import Image

from core.maps.resize import resized_tensor, target_size


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "short", "expected"),
    [
        ((480, 640), 240, (240, 320)),
        ((640, 480), 96, (128, 96)),
        ((1, 1), 448, (448, 448)),
        ((3, 7), 3, (3, 7)),
        ((1, 5000), 448, (448, 4 * 448)),
        ((5000, 1), 10, (40, 10)),
        ((100, 401), 1, (1, 4)),
        ((7, 9), 0, (1, 1)),
        ((375, 500), 224, (224, 299)),  # 298.67: rounded, not cut
    ],
)
def test_short_side(shape, short, expected):
    assert target_size(*shape, short) == expected
    image = np.full((*shape, 3), 51, np.uint8)
    torch.testing.assert_close(resized_tensor(image, short), torch.full((3, *expected), 0.2))


@pytest.mark.parametrize(
    ("shape", "short", "expected"),
    [
        ((375, 500), 448, (448, 597)),
        ((480, 640), 448, (448, 597)),
        ((1024, 2048), 448, (448, 896)),
        ((1, 5000), 448, (1, 2048)),  # f = 2048 / 5000: int(0.9) would be 0
        ((100, 1000), 448, (205, 2048)),
        ((1000, 100), 448, (2048, 205)),
    ],
)
def test_sizes_by_mmsegmentations_rule(shape, short, expected):
    assert target_size(*shape, short, "opencv") == expected
    assert tuple(resized_tensor(np.zeros((*shape, 3), np.uint8), short, "opencv").shape[1:]) == (
        expected
    )


@pytest.mark.parametrize(("shape", "short"), [((60, 80), 30), ((80, 60), 23), ((31, 47), 90)])
def test_antialias_agrees_with_pillow(shape, short):
    pixels = noise(*shape)
    height, width = target_size(*shape, short)
    found = (resized_tensor(pixels, short) * 255).permute(1, 2, 0).numpy()
    for channel in range(3):  # in float: Pillow rounds 8-bit images twice
        plane = Image.fromarray(pixels[..., channel].astype(np.float32))
        want = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(found[..., channel], want, atol=1e-3)


def test_opencv_agrees_with_opencv():
    import cv2

    pixels = noise(37, 50)
    found = (resized_tensor(pixels, 64, "opencv") * 255).round().byte().permute(1, 2, 0).numpy()
    want = cv2.resize(pixels, (int(50 * 64 / 37 + 0.5), 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(found, want)


def test_an_image_of_the_right_size_is_itself():
    pixels = noise(5, 7)
    want = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    assert torch.equal(resized_tensor(pixels, 5), want)
    assert torch.equal(resized_tensor(pixels, 5, "opencv"), want)
