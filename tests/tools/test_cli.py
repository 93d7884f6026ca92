"""The last boundary of every script: one line and exit code 2 for what nobody has foreseen."""

import sys

import pytest

from tools.cli import run, say


def fail():
    raise ValueError("a\nb \x1b[31m")


def test_what_is_left_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x.py"])
    monkeypatch.delenv("TTD_DEBUG", raising=False)
    with pytest.raises(SystemExit) as end:
        run(fail)
    line = capsys.readouterr().err
    assert end.value.code == 2 and line.count("\n") == 1 and "\x1b" not in line
    assert line.startswith("x.py: unexpected ValueError: a b ")


@pytest.mark.parametrize("flag", [True, False])
def test_debug_shows_the_traceback(monkeypatch, flag):
    monkeypatch.setattr(sys, "argv", ["x.py", *["--debug"] * flag, "more"])
    monkeypatch.setenv("TTD_DEBUG", "0" if flag else "1")
    with pytest.raises(ValueError, match="a"):
        run(fail)
    assert sys.argv == ["x.py", "more"]


def test_control_characters_never_reach_the_terminal(capsys):
    say("id \x1b[2J \u202e x")
    assert capsys.readouterr().err.isprintable() is False  # the line break
    say("caf\u00e9 \x1b[2J")
    assert capsys.readouterr().err.endswith("caf\u00e9 \\u001b[2J\n")
