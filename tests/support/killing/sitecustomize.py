"""On the path of a script under test: ends it by SIGKILL just before one of its final calls.

KILL_AT: which of the calls of os.replace, counted in each process. KILL_GROUP=1: with all processes
of its group, as a power cut would; else the one that reaches it alone.
"""

import os
import signal

_real = os.replace
_left = int(os.environ.get("KILL_AT", "0"))


def _replace(*args, **kwargs):
    global _left
    _left -= 1
    if _left == 0:
        if os.environ.get("KILL_GROUP") == "1":
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return _real(*args, **kwargs)


if _left > 0:
    os.replace = _replace
