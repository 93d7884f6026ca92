"""A font for any tag: Pillow's own for Latin, an installed one for other scripts, or None."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont

LINUX = ("~/.fonts", "~/.local/share/fonts", "/usr/share/fonts", "/usr/local/share/fonts")
MACOS = ("~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts")
WINDOWS = (r"%WINDIR%\Fonts", r"%LOCALAPPDATA%\Microsoft\Windows\Fonts")
ENDINGS = (".ttf", ".otf", ".ttc")
# Plain upright faces that cover many scripts come first; any other font is still tried after them.
PREFERRED = (
    "dejavusans.", "notosans-regular", "notosanscjk-regular", "notosans", "arialunicode",
    "applesdgothic", "malgun.", "pingfang", "hiragino", "msyh.", "meiryo", "segoeui.", "seguiemj",
    "notoemoji", "arial.",
)  # fmt: skip
NUMBERS = ": -0123456789."
MAX_FONTS = 500  # tried at most, for one tag
VARIATION_SELECTORS = "\ufe0e\ufe0f"  # "draw the character before me as text / as emoji"
NO_GLYPH = "\U0010fffe"  # a code point that no font has: what it draws is the "missing" box


def drawable(text: str, size: int) -> tuple[str, Font] | None:
    """`text` as it can be drawn on one line, and the font of `size` pixels to draw it with.

    Characters without a look of their own (line breaks, control and formatting characters) are left
    out; where no font has all letters, accents are dropped. None when nothing is left or no font
    can draw it.
    """
    spaced = " ".join(text.split())
    plain = "".join(c for c in spaced if c.isprintable() and c not in VARIATION_SELECTORS)
    if not plain:
        return None
    bare = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    for candidate in (plain, bare):
        if font := find_font(candidate, size):
            return candidate, font
    return None


@lru_cache(maxsize=64)
def default_font(size: int) -> Font:
    """Pillow's own font, which covers Latin, at `size` pixels."""
    return ImageFont.load_default(size=size)


@lru_cache(maxsize=256)
def find_font(text: str, size: int) -> Font | None:
    """The first font that can draw `text` and numbers, at `size` pixels; None when there is none.

    Pillow's built-in font comes first, so Latin tags look the same on every machine; then the
    installed fonts.
    """
    for font in _fonts(size):
        if _covers(font, text + NUMBERS):
            return font
    return None


def _fonts(size: int) -> Iterator[Font]:
    """Pillow's font, then the installed ones that can be opened, preferred names first."""
    yield default_font(size)
    for path in _installed()[:MAX_FONTS]:
        try:
            yield ImageFont.truetype(path, size)
        except (OSError, ValueError):  # a bitmap-only or damaged font
            continue


def _covers(font: Font, text: str) -> bool:
    """Whether the font draws every character as something else than its box for missing ones."""
    try:
        missing = _look(font, NO_GLYPH)
        return all(c.isspace() or _look(font, c) != missing for c in set(text))
    except (OSError, ValueError):
        return False


def _look(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    """The image of one character: its size and bytes."""
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """All font files of the usual folders, preferred names first, then by path."""
    files: list[Path] = []
    for folder in (*LINUX, *MACOS, *WINDOWS):
        place = Path(os.path.expandvars(os.path.expanduser(folder)))
        if place.is_dir():
            files += [path for path in place.rglob("*") if path.suffix.lower() in ENDINGS]
    return tuple(sorted(map(str, files), key=_rank))


def _rank(path: str) -> tuple[int, str]:
    """Place of a font file among the others."""
    name = Path(path).name.lower().replace(" ", "")
    preferred = [place for place, start in enumerate(PREFERRED) if name.startswith(start)]
    return min(preferred, default=len(PREFERRED)), path
