"""Images inside a page: small JPEGs as data addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import TTDError
from .page import Html, element, text

SIDE, SMALL = 420, 160  # longest and shortest long side in pixels
QUALITY = 84

Pixels = npt.NDArray[np.uint8]


def found(read: Callable[[], Pixels]) -> Pixels | None:
    """The image that `read` gives; None where it is not there or damaged, which costs no page."""
    try:
        return read()
    except TTDError:
        return None


def not_found() -> Html:
    """What stands in the place of an image that is not there."""
    return element("p", text("The image was not found."), class_="note")


def image(pixels: Pixels, said: str, labels: bool = False) -> Html:
    """An image uint8 [H, W, 3] as <img>. labels: of a label map, which is never blurred."""
    picture = Image.fromarray(pixels)
    longest = max(picture.size)
    if (factor := min(max(longest, SMALL), SIDE) / longest) != 1:
        size = tuple(max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize((size[0], size[1]), _method(factor, labels))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    address = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    sides = f'width="{picture.width}" height="{picture.height}"'
    return Html(f'<img src="{address}" alt="{text(said)}" {sides} style="height:auto">')


def _method(factor: float, labels: bool) -> Image.Resampling:
    """How an image becomes smaller or larger."""
    if labels:
        return Image.Resampling.NEAREST
    return Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC


def views(named: Sequence[tuple[str, Html]]) -> Html:
    """Images side by side, each with its name below."""
    figures = []
    for name, shown in named:
        figures.append(element("figure", shown, element("figcaption", text(name))))
    return element("div", *figures, class_="views")


def key(colours: Sequence[tuple[tuple[int, ...], str]]) -> Html:
    """What colours (red, green, blue) mean."""
    entries = []
    for colour, name in colours:
        mark = element("i", style="background:#{:02x}{:02x}{:02x}".format(*colour))
        entries.append(element("span", mark, text(name)))
    return element("div", *entries, class_="key")


def item(title: str, *content: Html) -> Html:
    """One entry of a gallery."""
    return element("div", element("h4", text(title)), *content, class_="item")


def items(entries: Sequence[Html], broad: bool = False) -> Html:
    """Entries of a gallery; broad: of several images each."""
    if not entries:
        return Html("")
    return element("div", *entries, class_="items broad" if broad else "items")
