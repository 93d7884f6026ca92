"""The one exception for bad input; scripts print it as one line and exit with code 2."""


class TTDError(Exception):
    """What is wrong, where, and how to mend it, in one human line."""
