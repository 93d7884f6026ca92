"""How training images are seen: timm's transform with a stream of its own for every image."""

import random

import numpy as np
import pytest
import torch
from small_pairs import picture

from core.tcl.augment import AugmentConfig, Augmenter, augment, seeded

PUBLISHED = AugmentConfig()


@pytest.fixture
def pixels():
    """uint8 [48, 64, 3]."""
    return np.asarray(picture(3, (64, 48)))


def test_an_image_is_seen_as_its_seed_says(pixels):
    one, same, other = (augment(pixels, seed, 32, PUBLISHED) for seed in (5, 5, 6))
    assert one.shape == (3, 32, 32) and one.dtype == np.float32
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_global_generators_are_as_before(pixels):
    def draws():
        return random.random(), np.random.rand(), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    want = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    for seed in range(4):
        augment(pixels, seed, 32, PUBLISHED)
    assert draws() == want


def test_generators_are_put_back_after_an_error():
    before = random.getstate()
    with pytest.raises(ValueError), seeded(3):
        random.random()
        raise ValueError
    assert random.getstate() == before


def test_it_is_timms_transform_with_the_published_arguments(pixels):
    from PIL import Image
    from timm.data import create_transform

    theirs = create_transform(
        input_size=32,
        is_training=True,
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )
    for seed in range(8):  # none of them posterizes to no bits
        with seeded(seed):
            want = theirs(Image.fromarray(pixels))
        assert np.array_equal(augment(pixels, seed, 32, PUBLISHED), want.numpy()), seed


def test_normalization_is_imagenets():
    plain = AugmentConfig(policy=None, erase=0.0)
    colour = np.full((40, 30, 3), (206, 21, 45), np.uint8)
    seen = augment(colour, 0, 16, plain)
    for channel, (value, mean, std) in enumerate(
        ((206, 0.485, 0.229), (21, 0.456, 0.224), (45, 0.406, 0.225))
    ):
        assert np.abs(seen[channel] - (value / 255 - mean) / std).max() < 1e-5


def test_mirror_and_erasing_are_as_frequent_as_said(pixels):
    grey = np.full((32, 32, 3), 124, np.uint8)  # near ImageNet's mean: noise stands out
    config = AugmentConfig(crop=(0.9, 1.0), hflip=0.0, policy=None, erase=0.25)
    noisy = [augment(grey, seed, 16, config).std(axis=(1, 2)).max() > 0.1 for seed in range(200)]
    assert 0.15 < np.mean(noisy) < 0.35
    ramp = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    config = AugmentConfig(crop=(0.9, 1.0), hflip=0.5, policy=None, erase=0.0)
    seen = [augment(np.ascontiguousarray(ramp), seed, 16, config) for seed in range(200)]
    assert 0.4 < np.mean([one[0, 0, 0] > one[0, 0, -1] for one in seen]) < 0.6


def test_processes_give_what_this_one_gives(pixels):
    augmenter = Augmenter(1)
    for seed in (1, 2**61):
        got = augmenter(pixels, seed, 32, PUBLISHED)
        assert np.array_equal(got, augment(pixels, seed, 32, PUBLISHED))


def test_a_draw_that_pillow_refuses_is_drawn_again(pixels):
    """rand-m10 posterizes to 0 bits whenever the lot falls on it."""
    strongest = AugmentConfig(policy="rand-m10-n2-inc1-p1.0")
    seen = [augment(pixels, seed, 16, strongest) for seed in range(60)]
    assert all(one.shape == (3, 16, 16) for one in seen)
