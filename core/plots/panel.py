"""The panel: an image, the map of its caption, a heat map per word, what the colours mean.

Kept words are large, rejected ones small and grey below them. The caption stands above it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from .heat import Maps, Pixels, heat_colours, overlay, quiet_colours, resized, resized_map
from .panel_plan import Layout, place, plan, quiet_place
from .sheet import Box, Colour, Picture, Sheet, fitted, legible, length, shortened, wrapped

INK, NOTE, QUIET, FRAME = (20, 20, 20), (105, 105, 105), (145, 145, 145), (205, 205, 205)
MAT = (238, 238, 238)  # around a thin image in its place
TITLE = 1.25  # letters of the caption, of those of a word
LONGEST = 1000  # letters of a name that are looked at for two lines
TITLE_LINES = 4  # a longer caption has smaller letters
LEADING = 1.3  # line height over letters
SMALL, BASELINES = 0.66, (0.56, 1.24)  # a name in two lines: letters and places, in letters
BAR = (9.0, 0.9)  # the key of the colours: width and height, in letters


@dataclass(frozen=True)
class Word:
    """A map [h, w] in [0, 1] of any size, its name, and the number beside it."""

    text: str
    score: float
    values: npt.NDArray[np.floating]


@dataclass(frozen=True)
class Cut:
    """The score above which words are kept, and what cut there, in words."""

    score: float
    reason: str


@dataclass(frozen=True)
class Look:
    """How a panel is drawn.

    overlay: maps over the image in grey, as opaque as they are high. cut: words that score above it
    are kept; None where nothing was cut. note: a line about the model, for the legend.
    """

    overlay: bool = False
    cut: Cut | None = None
    note: str = ""


def draw_panel(
    image: Pixels,
    words: Sequence[Word],
    *,
    selected: Sequence[bool] | None = None,
    caption: Word | None = None,
    look: Look | None = None,
) -> Sheet:
    """Draw the panel.

    Args:
        image: uint8 [H, W, 3].
        words: one per tile. Maps of `plan(...).picture` need no resizing.
        selected: a flag per word; rejected ones are drawn small and grey. None: all are kept.
        caption: its own map stands beside the image, its text above.
    Returns the sheet; `.pixels()` or `vector.encoded` make an image of it.
    Raises TTDError when there are not as many flags as words.
    """
    flags = [True] * len(words) if selected is None else list(selected)
    if len(flags) != len(words):
        raise TTDError(f"{len(words)} words, {len(flags)} flags: one of each per word is needed")
    kept = [i for i, flag in enumerate(flags) if flag]
    rejected = [i for i, flag in enumerate(flags) if not flag]
    height, width = image.shape[:2]
    layout = plan(height, width, len(kept), len(rejected), caption is not None)
    panel = _Panel(image, layout, look or Look(), [word.score for word in words])
    if caption is not None:
        panel.title(f"“{' '.join(caption.text.split())}”")
    panel.given(caption)
    panel.kept([(i + 1 + (caption is not None), words[i]) for i in kept])
    panel.rejected([(i + 1 + (caption is not None), words[i]) for i in rejected])
    panel.legend()
    return panel.sheet


class _Panel:
    """A panel that is being drawn from its top down: `y` is where the next part begins."""

    def __init__(self, image: Pixels, layout: Layout, look: Look, scores: Sequence[float]) -> None:
        self.image, self.layout, self.look = image, layout, look
        self.decimals = _decimals(scores, look.cut)
        self.sheet = Sheet(layout.width, 0)
        self.room = layout.width - 2 * layout.margin
        self.y = self.grid_top = layout.margin

    def title(self, text: str) -> None:
        """The whole caption, in as many lines as it needs."""
        size = round(TITLE * self.layout.text)
        lines = wrapped(text, size, self.room)
        if len(lines) > TITLE_LINES:
            size = self.layout.small
            lines = wrapped(text, size, self.room)
        for line in lines:
            self.y += round(LEADING * size)
            self.sheet.write((self.layout.margin, self.y - round(0.3 * size)), line, size, INK)
        self.y += round(0.6 * self.layout.text)

    def given(self, caption: Word | None) -> None:
        """The image, and the caption's map beside or below it, set apart by a line."""
        self.grid_top = self.y
        layout, corner = self.layout, (self.layout.margin, self.y)
        high, wide = place(layout.large)
        self._head(corner, wide, ("image", NOTE), "")
        self._tile((corner[0], corner[1] + layout.head), layout.large, self.image)
        if caption is not None:
            if layout.given[0] == 2:
                corner = (corner[0] + wide + layout.gap, corner[1])
            else:
                corner = (corner[0], corner[1] + layout.head + high + layout.gap)
            self._head(corner, wide, ("whole caption", INK), self._number(caption.score))
            pixels = self._coloured(caption.values, layout.large)
            self._tile((corner[0], corner[1] + layout.head), layout.large, pixels)
        if layout.columns:
            x = self._words_left() - layout.margin
            self.sheet.items.append(Box(x, self.y, 2, layout.grid_height, FRAME))

    def kept(self, words: Sequence[tuple[int, Word]]) -> None:
        """The kept words, each with its row in the demo's table."""
        layout = self.layout
        wide = place(layout.picture)[1]
        for index, (number, word) in enumerate(words):
            row, column = divmod(index, layout.columns)
            x = self._words_left() + column * (wide + layout.gap)
            y = self.y + row * (layout.picture[0] + layout.head + layout.gap)
            name = _name(word.text, number, layout.text)
            self._head((x, y), wide, (name, INK), self._number(word.score))
            pixels = self._coloured(word.values, layout.picture)
            self._tile((x, y + layout.head), layout.picture, pixels)
        self.y += layout.grid_height + layout.margin

    def rejected(self, words: Sequence[tuple[int, Word]]) -> None:
        """The rejected words, small and grey."""
        if not words:
            return
        layout, left = self.layout, self.layout.margin
        high, wide = quiet_place(layout)
        self.sheet.items.append(Box(left, self.y, self.room, 2, FRAME))
        self.y += round(0.6 * layout.text)
        heading = "rejected: not taken to be in the image"
        self.sheet.write((left, self.y + layout.small), heading, layout.small, NOTE)
        self.y += round(1.7 * layout.small)
        for index, (number, word) in enumerate(words):
            row, column = divmod(index, layout.quiet_columns)
            x = left + column * (wide + layout.gap)
            y = self.y + row * (high + layout.quiet_head + layout.gap)
            name = _name(word.text, number, layout.small)
            ending = self._number(word.score)
            self._head((x, y), wide, (name, QUIET), ending, layout.small)
            pixels = self._coloured(word.values, layout.quiet, quiet=True)
            self._tile((x, y + layout.quiet_head), layout.quiet, pixels, wide)
        self.y += layout.quiet_rows * (high + layout.quiet_head + layout.gap)
        self.y += layout.margin - layout.gap

    def legend(self) -> None:
        """What the colours, the numbers and the sizes mean; then the sheet ends.

        It stands below the image where there is room beside the words, else below everything.
        """
        layout, left, size = self.layout, self.layout.margin, self.layout.small
        beside = self.grid_top + layout.given_height + layout.gap
        wide = place(layout.large)[1]
        lines = self._legend_lines(wide)
        high = round(LEADING * size) * (len(lines) + 3)
        if beside + high <= self.grid_top + layout.grid_height:
            self._legend(left, beside, lines, below=True)
            self.sheet.height = self.y
            return
        lines = self._legend_lines(self.room - round((BAR[0] + 2) * size))
        self.sheet.height = self._legend(left, self.y, lines, below=False) + layout.margin

    def _legend_lines(self, room: float) -> list[str]:
        """The legend's texts in lines no wider than `room`."""
        texts = ["maps: soft masks; numbers: cosine of the word with its nearest pixel"]
        if self.look.cut is not None:
            number = self._number(self.look.cut.score)
            texts.append(f"kept: words above {number}, {self.look.cut.reason}")
        texts += [self.look.note] * bool(self.look.note)
        wrap = (wrapped(text, self.layout.small, room) for text in texts)
        return list(chain.from_iterable(wrap))

    def _legend(self, x: int, y: int, lines: Sequence[str], below: bool) -> int:
        """The key of the colours, and lines beside or below it; returns where they end."""
        size = self.layout.small
        wide, high = (round(share * size) for share in BAR)
        key = np.tile(np.linspace(0, 1, wide, dtype=np.float32), (high, 1))
        pixels = heat_colours(key)
        if self.look.overlay:
            pixels = overlay(np.full((high, wide, 3), 128, np.uint8), key)
        self.sheet.items += [Picture(x, y, pixels), Box(x, y, wide, high, FRAME, False)]
        under, end = y + high + size, "1: here"
        self.sheet.write((x, under), "0: not here", size, NOTE)
        self.sheet.write((x + wide - length(end, size), under), end, size, NOTE)
        bottom = under + round(0.4 * size)
        left, top = x + wide + 2 * size, y
        if below:
            left, top = x, bottom + round(0.4 * size)
        for line in lines:
            self.sheet.write((left, top + size), line, size, NOTE)
            top += round(LEADING * size)
        return max(top, bottom)

    def _number(self, score: float) -> str:
        """A score with as many decimals as tell it from the cut; never -0.00."""
        return f"{round(score, self.decimals) + 0.0:.{self.decimals}f}"

    def _words_left(self) -> int:
        """Where the first column of words begins."""
        layout = self.layout
        wide = layout.given[0] * (place(layout.large)[1] + layout.gap) - layout.gap
        return layout.margin + wide + 2 * layout.margin

    def _head(
        self,
        corner: tuple[int, int],
        wide: int,
        name: tuple[str, Colour],
        ending: str,
        size: int | None = None,
    ) -> None:
        """A word and its score above a tile `wide` pixels wide, made to fit."""
        size = size or self.layout.text
        x, baseline = corner[0], corner[1] + size
        number = round(0.85 * size)
        long = length(ending, number) if ending else 0.0
        room = wide - long - 0.5 * size * bool(ending)
        text, letters = fitted(name[0], size, room)
        lines = [] if text == name[0] else two_lines(name[0], round(SMALL * size), room)
        shares = BASELINES if len(lines) > 1 else (1.0,) * len(lines)
        for share, line in zip(shares, lines, strict=True):
            at = (x, corner[1] + round(share * size))
            self.sheet.write(at, line, round(SMALL * size), name[1])
        if not lines:
            self.sheet.write((x, baseline), text, letters, name[1])
        if ending:
            colour = QUIET if name[1] == QUIET else NOTE
            self.sheet.write((x + wide - long, baseline), ending, number, colour)

    def _coloured(
        self, values: npt.NDArray[np.floating], size: tuple[int, int], quiet: bool = False
    ) -> Pixels:
        """A map [h, w] in its colours: uint8 [H, W, 3] of `size`."""
        stretched: Maps = resized_map(np.asarray(values, np.float32), size)
        if self.look.overlay:
            return overlay(resized(self.image, size), stretched, quiet)
        return quiet_colours(stretched) if quiet else heat_colours(stretched)

    def _tile(
        self, corner: tuple[int, int], size: tuple[int, int], pixels: Pixels, wide: int = 0
    ) -> None:
        """An image in the middle of its place, with a thin frame."""
        x, y = corner
        wide = wide or place(size)[1]
        if wide > size[1]:
            self.sheet.items.append(Box(x, y, wide, size[0], MAT))
        x += (wide - size[1]) // 2
        self.sheet.items.append(Picture(x, y, resized(pixels, size)))
        self.sheet.items.append(Box(x, y, size[1], size[0], FRAME, False))


def two_lines(text: str, size: int, room: float) -> list[str]:
    """A phrase in two lines no wider than `room`, an ellipsis where it is longer still.

    One line where that is enough; [] where a word alone is wider: it would be broken.
    """
    if any(length(word, size) > room for word in text[:LONGEST].split()):
        return []
    first, *rest = wrapped(text[:LONGEST], size, room)
    return [first, *[shortened(" ".join(rest), size, room)][: len(rest)]]


def _name(text: str, number: int, size: int) -> str:
    """A word as it is written; `#number`, its row in the demo's table, where no font has it."""
    return text if legible(text, size) else f"#{number}"


def _decimals(scores: Sequence[float], cut: Cut | None) -> int:
    """Decimals of the numbers: 2, or 3 where a score and the cut would look the same."""
    alike = cut is not None and any(f"{score:.2f}" == f"{cut.score:.2f}" for score in scores)
    return 3 if alike else 2
