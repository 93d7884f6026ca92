"""Ends a run at a chosen moment, as a power cut would, within this process.

    moments = [*runs_killed(monkeypatch, run)]

Moments are the calls that make something final: os.replace and os.fsync. From the kill on nothing
can be cleaned up: whoever tries to remove, move or cut a file dies again.
"""

import os

import pytest

FINAL = ("replace", "fsync")  # counted: a kill comes just before each of these calls
CLEANING = ("unlink", "remove", "truncate", "ftruncate", "rename")  # the dead do not clean up


class Kill(BaseException):
    """No handler of errors may catch it."""


class Moments:
    """Counts final calls and dies at the `fatal`-th of them (0: never)."""

    def __init__(self, fatal: int):
        self.count, self.fatal, self.dead = 0, fatal, False

    def final(self, real):
        def call(*args, **kwargs):
            self.count += 1
            self.dead |= self.count == self.fatal
            if self.dead:
                raise Kill(f"at call {self.count}")
            return real(*args, **kwargs)

        return call

    def cleaning(self, real):
        def call(*args, **kwargs):
            if self.dead:
                raise Kill("cleaning up")
            return real(*args, **kwargs)

        return call


def run_until(fatal, run):
    """Call `run`, killed just before its `fatal`-th final call. The number of calls it made."""
    moments = Moments(fatal)
    with pytest.MonkeyPatch.context() as patch:
        for name in FINAL:
            patch.setattr(os, name, moments.final(getattr(os, name)))
        for name in CLEANING:
            patch.setattr(os, name, moments.cleaning(getattr(os, name)))
        try:
            run()
        except Kill:
            assert moments.dead
    assert moments.dead == bool(fatal), f"call {fatal} did not end the run"
    return moments.count


def contents(folder, ignore=()):
    """The bytes of every file below a folder by its relative path, without hidden ones."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not any(one in name for one in ignore):
            found[name] = path.read_bytes()
    return found
