"""The page of a report: nothing in it can run, nothing comes from outside, texts are texts."""

import re

import numpy as np
import pytest
from harmless_page import HOSTILE, check_harmless

from core.report.parts import images
from core.report.parts.charts import Bar, Line, bars, heat, histogram, lines
from core.report.parts.page import Html, element, folded, page, section, table, text


def whole_page(said: str) -> str:
    """A page of everything there is, with one text in every place."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    shown = images.views([(said, images.image(noise, said))])
    entry = images.item(said, shown, images.key([((1, 2, 3), said)]))
    values = np.array([0.1, 0.5, np.nan])
    charts = [
        bars([Bar(said, 0.5, 0.4, said), Bar("none", float("nan"))]),
        lines([0.1, 0.2, 0.3], [Line(said, values), Line("b", values, True)], said, said, mark=0.2),
        heat(np.eye(2), [said, "b"]),
        histogram(values, values, said),
    ]
    parts = [
        section(said, *charts, note=said),
        section("t", table([said, "b"], [[said, 1.5], ["x", said]], strong=1)),
        section("g", images.items([entry]), folded(said, text(said))),
        section("left out"),
    ]
    return page(said, said, parts)


def test_texts_of_strangers_stay_texts():
    reader = check_harmless(whole_page(HOSTILE))
    assert sum("<script>alert(1)</script>" in said for said in reader.said) > 8
    assert not any("\u202e" in said or "\x00" in said for said in reader.said)
    assert [name for name, _ in reader.elements if name == "h2"] == ["h2"] * 3


def test_values_stand_where_they_belong():
    """A chart's numbers: the length of a bar, the height of a point."""
    source = bars([Bar("cat", 0.25, 0.5)])
    assert 'width="25.00"' in source and 'width="50.00"' in source and "-25.0" in source
    drawn = lines([0.0, 1.0], [Line("a", np.array([0.0, 1.0]))], "x", "y")
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points.split())
    assert (x0, y0) == (42, 212) and (x1, y1) == (368, 10)
    matrix = heat(np.array([[0.5, 0.5], [0.0, 1.0]]), ["a", "b"])
    assert "a as b: 50.0 %" in matrix and "b as a: 0.0 %" in matrix


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (2000, 1500)])
def test_images_are_small_and_keep_their_shape(size):
    shown = images.image(np.zeros((*size, 3), np.uint8), "x", labels=True)
    width, height = map(int, re.findall(r'width="(\d+)" height="(\d+)"', shown)[0])
    assert max(width, height) <= 420 and max(width, height) >= 160
    if min(size) > 3:
        assert width / height == pytest.approx(size[1] / size[0], rel=0.01)


def test_what_is_empty_is_not_shown():
    assert section("x") == "" and section("x", Html("")) == ""
    assert element("p", text("a < b"), class_='"') == '<p class="&quot;">a &lt; b</p>'
