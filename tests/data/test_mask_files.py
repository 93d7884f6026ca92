"""Mask files: palette, grey and bit masks give label values; what is none is one line."""

import numpy as np
import pytest
from PIL import Image
from small_sets import save

from core.data.dataset_yaml import voc_palette
from core.data.mask_files import read_foreground, read_index, read_values
from core.errors import TTDError


def test_palette_and_grey_and_bits_give_indices(tmp_path):
    values = np.array([[0, 1, 20], [255, 3, 3]], np.uint8)
    image = Image.fromarray(values)
    image.putpalette(voc_palette().tobytes())
    image.save(tmp_path / "p.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    assert np.array_equal(read_index(tmp_path / "p.png"), values)
    assert np.array_equal(read_index(save(tmp_path / "l.png", values)), values)
    assert np.array_equal(read_index(save(tmp_path / "i16.png", values.astype(np.uint16))), values)
    assert np.array_equal(
        read_index(save(tmp_path / "rgb.png", np.stack([values] * 3, -1))), values
    )
    assert np.array_equal(
        read_index(save(tmp_path / "one.png", values == 3)), (values == 3).astype(np.uint8)
    )


def test_masks_that_are_none(tmp_path):
    colour = voc_palette()[np.array([[0, 1, 15]])]
    with pytest.raises(TTDError, match="colour-coded"):
        read_index(save(tmp_path / "colour.png", colour))
    with pytest.raises(TTDError, match="26001.*instance"):
        read_index(save(tmp_path / "instance.png", np.array([[7, 26001]], np.uint16)))
    with pytest.raises(TTDError, match="no such file"):
        read_index(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(TTDError, match="cannot be read as a mask"):
        read_index(tmp_path / "text.png")
    whole = save(
        tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (50, 50), np.uint8)
    ).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TTDError, match="cannot be read as a mask"):
        read_index(tmp_path / "half.png")


def test_any_colour_is_foreground(tmp_path):
    """Red, blue, black, white: the highest of a pixel's colours counts, not its opacity."""
    colours = np.array([[[9, 0, 0], [0, 0, 7], [0, 0, 0], [255, 255, 255]]], np.uint8)
    path = save(tmp_path / "rgb.png", colours)
    assert read_values(path).tolist() == [[9, 7, 0, 255]]
    opaque = np.concatenate([colours, np.full((1, 4, 1), 255, np.uint8)], -1)
    assert read_values(save(tmp_path / "rgba.png", opaque)).tolist() == [[9, 7, 0, 255]]


def test_foreground_is_what_is_not_zero(tmp_path):
    mask = np.array([[0, 255, 1]], np.uint8)
    for name, values in (
        ("l", mask),
        ("rgb", np.stack([mask] * 3, -1)),
        ("one", mask > 0),
        ("rgba", np.concatenate([np.stack([mask] * 3, -1), np.full((1, 3, 1), 255, np.uint8)], -1)),
    ):
        assert read_foreground(save(tmp_path / f"{name}.png", values)).tolist() == [
            [False, True, True]
        ]
