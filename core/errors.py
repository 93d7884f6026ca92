"""The exceptions that `core` raises for bad input: scripts print them and exit with code 2."""


class TTDError(Exception):
    """What is wrong, where, and how to mend it, in one human line."""


class UnreadableError(TTDError):
    """A file that cannot be read now: not there, no permission, a disk or a server away.

    What it holds is not known, so it is no reason to leave anything out for good: it is tried
    again by the next run. A damaged file is a plain `TTDError`.
    """
