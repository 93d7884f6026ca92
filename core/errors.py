"""The one exception that `core` raises for bad input: scripts print it and exit with code 2."""


class TTDError(Exception):
    """What is wrong, where, and how to mend it, in one human line."""
