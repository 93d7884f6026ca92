"""The gallery: which rows it has, and what each shows."""

import numpy as np

from core.plots.gallery import Row, best_and_worst, draw_gallery


def test_best_and_worst():
    scores = {"a": 0.5, "b": 0.9, "c": float("nan"), "d": 0.1, "e": 0.5, "f": 0.7}
    assert best_and_worst(scores, 1) == ["b", "d"]
    assert best_and_worst(scores, 2) == ["b", "f", "e", "d"]
    assert best_and_worst(scores, 9) == ["b", "f", "a", "e", "d"]


def test_gallery_shows_what_it_says():
    """Truth and prediction have their colours over the grey image; the image is untouched."""
    palette = np.zeros((256, 3), np.uint8)
    palette[1], palette[2] = (200, 0, 0), (0, 0, 200)
    image = np.full((110, 110, 3), 100, np.uint8)
    truth, prediction = np.full((2, 110, 110), [[[1]], [[2]]], np.uint8)
    sheet = np.asarray(
        draw_gallery([Row("p", image, truth, prediction)], {1: "one", 2: "two"}, palette)
    )
    colours = {tuple(colour) for colour in sheet.reshape(-1, 3).tolist()}
    assert {(100, 100, 100), (175, 25, 25), (25, 25, 175), (200, 0, 0), (0, 0, 200)} <= colours
    for colour in ((100, 100, 100), (175, 25, 25), (25, 25, 175)):
        assert (
            abs((sheet == colour).all(-1).sum() - 220 * 220) < 60
        )  # a letter's edge may have the colour too


def test_long_names_are_broken_and_keep_their_shares():
    """A name of three lines makes its row no shorter than what stands in it."""
    labels = np.arange(9, dtype=np.uint8).repeat(9).reshape(9, 9)
    palette = np.zeros((256, 3), np.uint8)
    image, name = np.zeros((9, 9, 3), np.uint8), "a very long name of a class " * 5
    heights = {}
    for kind, names in (("short", {}), ("long", dict.fromkeys(range(9), name))):
        rows = [Row("p", image, labels, labels)]
        heights[kind] = draw_gallery(rows, names, palette).height
    assert heights["long"] - 40 >= 9 * 4 * 20 > heights["short"]
