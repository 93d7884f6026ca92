"""Ctrl-C: the first ends a script in order, the second at once; neither prints a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

INTERRUPTED = 130  # exit code, 128 + SIGINT


def handle_interrupts() -> None:
    """Take over SIGINT for the rest of the process, and the destructors that it may hit.

    An interrupt that somebody else handles or ignores (a shell's background jobs) stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    before = sys.unraisablehook

    def unraisable(error: Any) -> None:
        """Python would print a traceback, forget the interrupt and go on."""
        if issubclass(error.exc_type, KeyboardInterrupt):
            end_at_once()
        before(error)

    sys.unraisablehook = unraisable


def interrupt(number: int, frame: object) -> NoReturn:
    """Signal handler: KeyboardInterrupt, and the next signal of the kind ends the process.

    Armed before the exception is on its way: there is no moment at which a second one could break
    into the handling of the first.
    """
    signal.signal(number, end_at_once)
    raise KeyboardInterrupt


def end_at_once(*_: object) -> NoReturn:
    """As by a kill, which every result survives."""
    os._exit(INTERRUPTED)
