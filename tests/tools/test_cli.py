"""The last boundary of every script: one line and exit code 2 for what nobody has foreseen."""

import os
import signal
import subprocess
import sys

import pytest
from paths import ROOT

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


INTERRUPTED = """
from tools.cli import run

class Closing:
    def __del__(self):
        raise KeyboardInterrupt

def main():
    Closing()
    print("went on")

run(main)
"""


# Two signals that are there at once: the handlers of both run before the next line does.
TWICE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests
from tools.cli import run

def main():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        print("cleared up", flush=True)
        signal.raise_signal(signal.SIGINT)
        print("went on", flush=True)

run(main)
"""
# What a shell does to jobs in the background.
IGNORED = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from tools.cli import run
run(lambda: signal.raise_signal(signal.SIGINT))
"""


# A module that is interrupted while it is imported, and forgets it as some libraries do.
IMPORTED = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    print("went on")
"""
# Interrupts the import of tools.evaluation, before `run` is called.
FINDER = """
import signal, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "tools.evaluation":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder)
"""
IMPORTS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tools.cli import run

def main():
    sys.path.insert(0, sys.argv[1])
    print("before")
    import imported

run(main)
"""


def ended(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("own", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_wait_shortly_unless_the_user_says_otherwise(own, spins, monkeypatch):
    """Set before anything loads torch, whose libgomp reads it once."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    script = "import os, sys, tools.cli; print(os.environ.get('GOMP_SPINCOUNT'), *sys.modules)"
    words = ended(script, **own).stdout.split()
    assert words[0] == spins and "tools.cli" in words and "torch" not in words


def test_a_second_interrupt_ends_at_once_and_without_a_traceback():
    end = ended(TWICE)
    assert (end.returncode, end.stdout, end.stderr) == (130, "cleared up\n", "")


def test_an_interrupt_of_an_import_ends_at_once(tmp_path):
    (tmp_path / "imported.py").write_text(IMPORTED)
    end = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (end.returncode, end.stdout, end.stderr) == (130, "before\n", "\ninterrupted\n")


def listening():
    """Of tests that run in the background, SIGINT would be ignored from the start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupt_before_the_script_runs_is_one_line(tmp_path):
    """While it imports what it needs itself."""
    (tmp_path / "sitecustomize.py").write_text(FINDER)
    end = subprocess.run(
        [sys.executable, str(ROOT / "evaluate_phrase_masks.py"), "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=listening,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (end.returncode, end.stdout, end.stderr) == (130, "", "\ninterrupted\n")


def test_an_ignored_interrupt_stays_ignored():
    assert ended(IGNORED).returncode == 0


def test_an_interrupt_in_a_destructor_is_not_lost():
    end = ended(INTERRUPTED)
    assert (end.returncode, end.stdout, end.stderr) == (130, "", "")


def test_control_characters_never_reach_the_terminal(capsys):
    say("id \x1b[2J \u202e x")
    assert capsys.readouterr().err.isprintable() is False  # the line break
    say("caf\u00e9 \x1b[2J")
    assert capsys.readouterr().err.endswith("caf\u00e9 \\u001b[2J\n")
