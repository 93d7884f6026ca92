"""Ctrl-C: the first ends a script in order, the second at once; neither prints a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130  # exit code, 128 + SIGINT


def handle_interrupts() -> None:
    """Take over SIGINT for the rest of the process, and the destructors that it may hit.

    An interrupt that somebody else handles or ignores (a shell's background jobs) stays as it is.
    Called again, it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    before = sys.unraisablehook
    if before.__module__ == __name__:
        return

    def unraisable(error: Any) -> None:
        """Python would print a traceback, forget the interrupt and go on."""
        if issubclass(error.exc_type, KeyboardInterrupt):
            end_at_once()
        before(error)

    sys.unraisablehook = unraisable


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Signal handler: KeyboardInterrupt, and the next signal of the kind ends the process.

    Armed before the exception is on its way: there is no moment at which a second one could break
    into the handling of the first. While modules are imported, the first ends the process, too:
    NumPy and torch take the exception for a broken installation, abort, or forget it.
    """
    signal.signal(number, end_at_once)
    if importing(frame):
        with contextlib.suppress(Exception):  # a print may be under way
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            os.write(2, b"\ninterrupted\n")
        end_at_once()
    raise KeyboardInterrupt


def importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported where a signal came."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def end_at_once(*_: object) -> NoReturn:
    """As by a kill, which every result survives."""
    os._exit(INTERRUPTED)
