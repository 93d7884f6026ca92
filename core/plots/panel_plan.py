"""Where everything of a panel stands: sizes of tiles and letters, rows and columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

WIDEST = 2400  # pixels that a panel's maps take beside each other, at most, about
MIN_SIDE = 256  # smaller images are enlarged until their long side has this many pixels
LEAST_SIDE = 96  # of a map where there are very many
MIN_TILE = 200  # narrowest place of a map, or its word has no room; thin images are centred in it
MIN_THICKNESS = 24  # a 5000 x 1 image is drawn this thick, or nobody would see it
MAX_PIXELS = 48_000_000  # of all maps together; with very many, they are reduced to stay below
PANEL_ASPECT = 2.6  # width / height that the maps together aim at; the panel is higher
ROOM_COST = 2.0  # of an empty place in the arrangement
LARGEST = 2.0  # the image is at most as high as this many rows of maps, about
ENLARGED = 1.5  # the image over its own size, at most, where it is not small
QUIET_SHARE, QUIET_LARGEST = 0.42, 0.7  # size of a rejected word's map, of a kept one's
QUIET_WORDS = 8  # letter heights that a rejected word and its score need
LETTERS = 62  # as many letter heights as the panel is wide: 8 points on a page 7 inches wide
TEXT = (15, 56)  # smallest and largest letters in pixels


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels; every size is (H, W).

    picture: a kept word's map; large: the image and the caption's map; quiet: a rejected word's
    map. Each is centred in a place at least `MIN_TILE` wide (`place`). given: how many columns and
    rows of `large` ones there are; columns, rows: of kept words; quiet_columns, quiet_rows: of
    rejected ones. text: height of letters.
    """

    picture: tuple[int, int]
    large: tuple[int, int]
    quiet: tuple[int, int]
    given: tuple[int, int]
    columns: int
    rows: int
    quiet_columns: int
    quiet_rows: int
    text: int

    @property
    def gap(self) -> int:
        """Between tiles."""
        return max(8, round(0.8 * self.text))

    @property
    def margin(self) -> int:
        """Around the panel, and between its parts."""
        return max(12, round(1.2 * self.text))

    @property
    def head(self) -> int:
        """Of the line above a tile, with the space below it."""
        return round(1.5 * self.text)

    @property
    def small(self) -> int:
        """Height of letters of what is rejected, and of the legend."""
        return max(12, round(0.75 * self.text))

    @property
    def quiet_head(self) -> int:
        """Of the line above a rejected word's map."""
        return round(1.5 * self.small)

    @property
    def width(self) -> int:
        """Of the whole panel."""
        given = self.given[0] * (place(self.large)[1] + self.gap) - self.gap
        words = self.columns * (place(self.picture)[1] + self.gap) - self.gap
        inside = given
        if self.columns:
            inside += words + 2 * self.margin
        return inside + 2 * self.margin

    @property
    def given_height(self) -> int:
        """Of the image and the caption's map, with their headings."""
        return self.given[1] * (self.large[0] + self.head + self.gap) - self.gap

    @property
    def grid_height(self) -> int:
        """Of these and the kept words beside them."""
        words = self.rows * (self.picture[0] + self.head + self.gap) - self.gap
        return max(self.given_height, words)


def place(size: tuple[int, int]) -> tuple[int, int]:
    """The place (H, W) of a map (H, W)."""
    return size[0], max(MIN_TILE, size[1])


def plan(height: int, width: int, kept: int, rejected: int = 0, caption: bool = False) -> Layout:
    """Arrange an image of `height` x `width` pixels, its caption's map if any, and maps of words.

    The image and the caption's map stand at the left, the kept words beside them, the rejected
    ones small below. Maps need no more pixels than `Layout.picture` (words) and `Layout.large`
    (the caption), so these are the sizes to ask the predictor for.
    """
    given = 1 + caption
    columns = _columns(kept, given, width / height)
    rows = math.ceil(kept / columns) if columns else 0
    across, down, scale = _given(given, rows)
    wide = across * scale + columns
    long = max(height, width)
    affordable = math.sqrt(MAX_PIXELS / (kept + given) * long / min(height, width))
    bounds = (long, long * ENLARGED / scale, affordable, WIDEST / wide / width * long)
    least = MIN_SIDE if kept <= 64 else LEAST_SIDE
    factor = max(least, min(bounds)) / long
    picture = _scaled(height, width, factor)
    text = round(wide * place(picture)[1] / LETTERS)
    text = min(max(TEXT[0], text), TEXT[1])
    layout = Layout(
        picture=picture,
        large=picture,
        quiet=picture,
        given=(across, down),
        columns=columns,
        rows=rows,
        quiet_columns=0,
        quiet_rows=0,
        text=text,
    )
    if scale > 1:
        layout = replace(layout, large=_large(layout))
    return _place_quiet(layout, rejected)


def _large(layout: Layout) -> tuple[int, int]:
    """The image's size (H, W) at which it and the caption's map end where the words' maps do."""
    down = layout.given[1]
    used = min(layout.rows, round(LARGEST * down))  # of the rows of words
    high = used * (layout.picture[0] + layout.head + layout.gap)
    share = (high / down - layout.head - layout.gap) / layout.picture[0]
    return _scaled(*layout.picture, share)


def _place_quiet(layout: Layout, rejected: int) -> Layout:
    """The layout with the rejected words in rows as wide as the rest."""
    share = QUIET_WORDS * layout.small / layout.picture[1]
    share = min(max(QUIET_SHARE, share), QUIET_LARGEST)
    layout = replace(layout, quiet=_scaled(*layout.picture, share))
    if not rejected:
        return layout
    room = layout.width - 2 * layout.margin + layout.gap
    fitting = max(1, room // (quiet_place(layout)[1] + layout.gap))
    rows = math.ceil(rejected / fitting)
    return replace(layout, quiet_columns=math.ceil(rejected / rows), quiet_rows=rows)


def quiet_place(layout: Layout) -> tuple[int, int]:
    """The place (H, W) of a rejected word's map: wide enough for a short word and its score."""
    return layout.quiet[0], max(QUIET_WORDS * layout.small, layout.quiet[1])


def _given(given: int, rows: int) -> tuple[int, int, float]:
    """The image, and the caption's map if given is 2: (columns, rows, size over a word's map)."""
    if rows <= 1:
        return given, 1, 1.0
    return 1, given, min(LARGEST, max(1.0, rows / given))


def _columns(kept: int, given: int, shape: float) -> int:
    """Columns of kept words: those whose panel comes closest to `PANEL_ASPECT`, well filled."""

    def cost(columns: int) -> float:
        """How far a panel of so many columns is from its shape, and what stays empty."""
        rows = math.ceil(kept / columns)
        across, down, scale = _given(given, rows)
        wide, high = across * scale + columns, max(rows, down * scale)
        empty = wide * high - kept - across * down * scale**2
        return abs(math.log(wide * shape / high / PANEL_ASPECT)) + ROOM_COST * empty / (wide * high)

    return min(range(1, kept + 1), key=cost, default=0)


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    """(H, W) times a factor, each at least `MIN_THICKNESS`."""
    return max(MIN_THICKNESS, round(height * factor)), max(MIN_THICKNESS, round(width * factor))
