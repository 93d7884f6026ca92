"""Mask files: palette, grey and bit masks give label values; what is none is one line."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small_sets import save

from core.data.labels.dataset_yaml import voc_palette
from core.data.labels.mask_files import read_foreground, read_index, read_values, wrong_foreground
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


def packed(path, values, depth, colour=0):
    """A PNG written byte by byte: samples of 1, 2, 4, 8 or 16 bits, as the PNG standard packs them.

    colour 3 is a palette of as many greys. An independent writer: Pillow stores no grey 2 or 4.
    """
    height, width = values.shape
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1  # [H, W, depth]
    bits = bits.reshape(height, -1).astype(np.uint8)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if colour == 3:
        chunks.append((b"PLTE", bytes(3 * [0, *range(1, 2**depth)])[: 3 * 2**depth]))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("colour", [0, 3])
def test_samples_are_read_as_stored(tmp_path, depth, colour):
    values = np.random.default_rng(depth).integers(0, min(2**depth, 200), (7, 9))
    read = read_index(packed(tmp_path / "a.png", values, depth, colour))
    assert read.dtype == np.uint8 and read.tolist() == values.tolist()


def test_sixteen_bits(tmp_path):
    values = np.array([[0, 7, 255]])
    assert read_index(packed(tmp_path / "a.png", values, 16)).tolist() == values.tolist()
    with pytest.raises(TTDError, match="instance ids"):
        read_index(packed(tmp_path / "b.png", values + 1, 16))
    with pytest.raises(TTDError, match="16 bits a colour"):
        read_index(packed(tmp_path / "c.png", np.repeat(values, 3, axis=1), 16, colour=2))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_white_of_few_bits_is_white(tmp_path, depth):
    """A mask of 0 and 255 that an optimiser packed: black and white, not 0 and 3."""
    values = np.array([[0, 2**depth - 1, 0]])
    read = read_values(packed(tmp_path / "a.png", values, depth))
    assert wrong_foreground(read) == "" and (read != 0).tolist() == [[False, True, False]]


def test_a_jpeg_under_the_name_of_a_mask_is_refused(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(TTDError, match="not a PNG"):
        read_index(tmp_path / "a.png")


def test_a_pipe_is_refused_and_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(TTDError, match="not a regular file"):
        read_index(tmp_path / "a.png")


def test_soft_true_masks_are_cut_at_half_and_said(tmp_path):
    soft = save(tmp_path / "soft.png", np.array([[0, 100, 127, 128, 255]], np.uint8))
    with pytest.warns(UserWarning, match="cut at half"):
        assert read_foreground(soft).tolist() == [[False, False, False, True, True]]
    with pytest.raises(TTDError, match="values 1, 2; a mask of one tag"):
        read_foreground(save(tmp_path / "ids.png", np.array([[0, 1, 2]], np.uint8)))
    one = save(tmp_path / "one.png", np.array([[0, 38]], np.uint8))
    assert read_foreground(one).tolist() == [[False, True]]


@pytest.mark.parametrize("read", [read_index, read_foreground])
@pytest.mark.parametrize("colour", [0, 255])
def test_a_cut_out_is_refused_and_an_opaque_mask_read(tmp_path, read, colour):
    """What such a file shows is in its transparency; its colours are the same everywhere."""
    values = np.full((4, 5, 4), colour, np.uint8)
    values[..., 3] = np.arange(5) * 60
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.raises(TTDError, match="partly transparent"):
        read(tmp_path / "a.png")
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5) % 2
    opaque = np.dstack([labels, labels, labels, np.full((4, 5), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "b.png")
    assert np.array_equal(read(tmp_path / "b.png"), labels)
