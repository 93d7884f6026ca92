"""stdout and stderr that show what acts on a terminal instead of sending it.

Names of files and classes, ids, captions and what a model file says of itself come from strangers.
An escape sequence among them could clear the screen, set a title, type on some terminals; a bidi
mark could make a path look like another. Everything that a script prints passes here: tables,
messages, warnings, progress bars, tracebacks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from core.utils.shown import visible


class Visible:
    """A text stream whose `write` shows control characters; everything else is the stream's own.

    A carriage return at either end is a progress bar's way back to the begin of its line, as are
    its steps between the lines of several bars: on stderr these stay.
    """

    def __init__(self, stream: Any, bars: bool) -> None:
        """bars: whether progress bars are drawn here."""
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        """Write `text`, controls as their numbers. The number of characters that were given."""
        if self._bars and text == UP * (len(text) // len(UP)):
            self._stream.write(text)
            return len(text)
        inner = text.strip("\r") if self._bars else text
        shown = visible(inner)
        if inner != text:
            before = len(text) - len(text.lstrip("\r"))
            after = len(text) - before - len(inner)
            shown = "\r" * before + shown + "\r" * after
        self._stream.write(shown)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """`write` for each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


UP = "\x1b[A"  # what a bar below the first sends


def guard_terminal() -> None:
    """Put `Visible` in the place of stdout and stderr, once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # A tag in letters that the terminal lacks must not end the run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if stream is not None and not isinstance(stream, Visible):
            setattr(sys, name, Visible(stream, bars=name == "stderr"))
