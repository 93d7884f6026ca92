"""A sheet to draw on: texts, images and boxes at their places, kept until they are rendered.

Kept, and not drawn at once, so that one layout becomes pixels, SVG or PDF (`vector.py`).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from .fonts import Font, default_font, drawable
from .heat import Pixels

Colour: TypeAlias = tuple[int, int, int]
Run: TypeAlias = tuple[str, Font]  # text that one font can draw
LETTERS = 500  # of a text that are tried, at most
SMALLEST = 0.72  # a text that must fit is made smaller down to this share, and then cut


@dataclass(frozen=True)
class Text:
    """A text on one line from `x` to the right, its baseline at `y`."""

    x: float
    y: float
    text: str
    font: Font
    colour: Colour


@dataclass(frozen=True)
class Picture:
    """An image uint8 [H, W, 3] with its upper left corner at `x`, `y`."""

    x: int
    y: int
    pixels: Pixels


@dataclass(frozen=True)
class Box:
    """A rectangle from `x`, `y`, filled, or a line of one pixel around it."""

    x: int
    y: int
    width: int
    height: int
    colour: Colour
    filled: bool = True


@dataclass
class Sheet:
    """A white sheet of `width` x `height` pixels, and what is on it, in order."""

    width: int
    height: int
    items: list[Text | Picture | Box] = field(default_factory=list)

    def write(self, at: tuple[float, float], text: str, size: int, colour: Colour) -> float:
        """A text from `at` (x, baseline) to the right; returns its width."""
        x = at[0]
        for run, font in runs(text, size):
            self.items.append(Text(x, at[1], run, font, colour))
            x += font.getlength(run)
        return x - at[0]

    def pixels(self) -> Pixels:
        """The sheet as uint8 [H, W, 3]."""
        image = Image.new("RGB", (self.width, self.height), "white")
        draw = ImageDraw.Draw(image)
        for item in self.items:
            if isinstance(item, Text):
                draw.text((item.x, item.y), item.text, item.colour, item.font, anchor="ls")
            elif isinstance(item, Picture):
                image.paste(Image.fromarray(item.pixels), (item.x, item.y))
            else:
                corners = (item.x, item.y, item.x + item.width - 1, item.y + item.height - 1)
                paint = {"fill" if item.filled else "outline": item.colour}
                draw.rectangle(corners, **paint)
        return np.asarray(image)


def runs(text: str, size: int) -> list[Run]:
    """A text as pieces with a font each that can draw them.

    Words that no font can draw are boxes, one a letter, as everywhere; in an SVG file they are what
    they are.
    """
    if shown := drawable(text, size):
        return [shown]
    found: list[Run] = []
    for word in text.split():
        unknown = "".join(letter for letter in word if letter.isprintable())
        plain, font = drawable(word, size) or (unknown, default_font(size))
        if found:
            before, last = found[-1]
            found[-1] = (f"{before} ", last)
        if found and found[-1][1].getname() == font.getname():
            found[-1] = (found[-1][0] + plain, font)
        else:
            found.append((plain, font))
    return found


def legible(text: str, size: int) -> bool:
    """Whether at least one word of a text can be drawn."""
    return any(drawable(word, size) for word in text.split())


def length(text: str, size: int) -> float:
    """Width of a text in pixels."""
    widths: list[float] = [font.getlength(run) for run, font in runs(text, size)]
    return sum(widths)


def fitted(text: str, size: int, room: float) -> tuple[str, int]:
    """A text that is no wider than `room`, and the size of its letters.

    It is made smaller, down to `SMALLEST` of its size; then its end becomes an ellipsis.
    """
    wide = length(text, size)
    if wide <= room:
        return text, size
    least = round(SMALLEST * size)
    smaller = max(least, int(size * room / wide))
    while smaller > least and length(text, smaller) > room:  # letters are not quite in proportion
        smaller -= 1
    return shortened(text, smaller, room), smaller


def shortened(text: str, size: int, room: float) -> str:
    """A text cut to `room` pixels, with an ellipsis at its end where it was cut."""
    if len(text) < 2 or length(text, size) <= room:
        return text
    lengths = range(min(len(text) - 1, LETTERS), 0, -1)  # ever narrower
    shorter = [f"{text[:keep].rstrip()}..." for keep in lengths]
    first = bisect.bisect_left(shorter, -room, key=lambda one: -length(one, size))
    return shorter[min(first, len(shorter) - 1)]


def wrapped(text: str, size: int, room: float) -> list[str]:
    """A text in lines no wider than `room`; a word that is wider is broken."""
    lines = [""]
    for piece in _pieces(text, size, room):
        longer = f"{lines[-1]} {piece}".strip()
        if lines[-1] and length(longer, size) > room:
            lines.append(piece)
        else:
            lines[-1] = longer
    return lines


def _pieces(text: str, size: int, room: float) -> Iterator[str]:
    """The words of a text; those that are wider than `room` in pieces."""
    for word in text.split():
        if length(word, size) <= room:
            yield word
            continue
        start = 0
        while start < len(word):
            rest = word[start : start + LETTERS]
            keep = _fitting(rest, size, room)
            yield rest[:keep]
            start += keep


def _fitting(word: str, size: int, room: float) -> int:
    """How many first letters of a word fit into `room`, 1 at least."""
    counts: Sequence[int] = range(1, len(word) + 1)
    return max(1, bisect.bisect_right(counts, room, key=lambda n: length(word[:n], size)))
