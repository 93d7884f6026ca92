"""How training images are seen: their size, crop and mirror."""

import numpy as np
import torch
import torch.nn.functional as F
from small_pairs import picture

from core.ttd.augment import Augmentation, augment


def test_an_uncropped_picture_is_resized_as_everywhere_else():
    pixels = np.array(picture(3, (50, 30)))
    got = augment(pixels, Augmentation(16, 8, hflip=False), 16, np.random.default_rng(0))
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    want = F.interpolate(whole, (16, 16), mode="bilinear", antialias=True)[0]
    assert torch.allclose(got, want, atol=1e-6)


def test_half_of_the_pictures_are_mirrored_and_crops_stay_inside():
    pixels = np.tile(
        np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3)
    )  # brightness = column
    plain = Augmentation(8, 8)
    left = [float(augment(pixels, plain, 8, np.random.default_rng(i))[0, 0, 0]) for i in range(200)]
    mirrored = sum(value > 32 / 255 for value in left)
    assert 70 < mirrored < 130 and len(set(np.round(left, 4))) == 2
    cropped = [
        augment(pixels, Augmentation(8, 8, hflip=False, crop=0.5), 8, np.random.default_rng(i))[0]
        * 255
        for i in range(200)
    ]
    widths = [
        float(crop[0, -1] - crop[0, 0]) * 8 / 7 for crop in cropped
    ]  # columns from the first to the last
    assert 31 <= min(widths) < 36 and 60 < max(widths) <= 65
    assert min(float(c.min()) for c in cropped) >= 0 and max(float(c.max()) for c in cropped) <= 63


def test_scales_are_drawn_per_step_in_multiples_of_the_patch():
    view = Augmentation(32, 8, scales=(1.0, 0.6, 1.5))
    sides = [view.side(np.random.default_rng((0, 2, step))) for step in range(40)]
    assert set(sides) == {32, 16, 48}
    assert 5 < sides.count(16) < 22 and Augmentation(32, 8, scales=(1.5,)).side(None) == 48
    # Rounded, not cut: 40 x 0.75 is 30 pixels, 3.75 patches; and never none.
    sides = [Augmentation(40, 8, (scale,)).side(None) for scale in (0.75, 0.6, 0.05)]
    assert sides == [32, 24, 8]


def test_a_crop_lies_where_its_draws_say():
    """Rows in one channel, columns in another; a wide image, so that swapped sides show."""
    rows, columns = np.mgrid[0:40, 0:120].astype(np.uint8)
    pixels = np.stack([rows, columns, rows], 2)
    view = Augmentation(8, 8, hflip=False, crop=0.5)
    for seed in range(5):
        _, zoom, down, across = np.random.default_rng(seed).random(4)
        share = 0.5 + 0.5 * zoom
        h, w = round(share * 40), round(share * 120)
        top, left = int(down * (41 - h)), int(across * (121 - w))
        seen = 255 * augment(pixels, view, 8, np.random.default_rng(seed))
        assert abs(float(seen[0].mean()) - (top + (h - 1) / 2)) < 0.1
        assert abs(float(seen[1].mean()) - (left + (w - 1) / 2)) < 0.1
