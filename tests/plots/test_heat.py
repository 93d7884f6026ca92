"""Colours of maps: heat maps, overlays, greys."""

import numpy as np
import pytest

from core.plots.heat import heat_colours, overlay, quiet_colours


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        (0, (0, 0, 255)),
        (0.25, (128, 128, 255)),
        (0.5, (255, 255, 255)),
        (0.75, (255, 128, 128)),
        (1, (255, 0, 0)),
        (-3, (0, 0, 255)),
        (7, (255, 0, 0)),
        (np.nan, (0, 0, 255)),
    ],
)
def test_heat_colours(value, colour):
    np.testing.assert_array_equal(
        heat_colours(np.full((2, 3), value)), np.broadcast_to(colour, (2, 3, 3))
    )


def test_heat_colours_never_step_backwards():
    red, green, blue = heat_colours(np.linspace(0, 1, 1001)).astype(int).T
    assert (np.diff(red) >= 0).all() and (np.diff(blue) <= 0).all()
    assert (np.diff(green[:501]) >= 0).all() and (np.diff(green[500:]) <= 0).all()


def test_greys_darken_with_the_value_and_have_no_colour():
    greys = quiet_colours(np.linspace(-1, 2, 301)).astype(int)
    assert (greys == greys[:, :1]).all() and (np.diff(greys[:, 0]) <= 0).all()
    assert greys[0, 0] == 246 and greys[-1, 0] == 120


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        # The image (90, 60, 0) is grey 50, half way to white 152.5.
        (0.0, (152, 152, 152)),
        (0.25, (152, 152, 152)),
        # 0.75 half: 0.375 of (214, 20, 30), 0.625 of the grey.
        (0.5, (176, 103, 107)),
        (0.75, (199, 53, 61)),
        (1.0, (199, 53, 61)),
        (np.nan, (152, 152, 152)),
    ],
)
def test_an_overlay_is_as_opaque_as_its_map_is_high(value, colour):
    image = np.broadcast_to(np.array([90, 60, 0], np.uint8), (2, 2, 3))
    assert overlay(image, np.full((2, 2), value))[0, 0].tolist() == list(colour)


def test_a_rejected_words_overlay_is_grey():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    pixels = overlay(image, np.linspace(0, 1, 16).reshape(4, 4), quiet=True)
    assert (pixels == pixels[..., :1]).all()
