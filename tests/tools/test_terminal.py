"""Nothing that a stranger named reaches a terminal as more than letters."""

import io
import sys
import unicodedata
import warnings

import pytest
from paths import ROOT
from tqdm import tqdm

import evaluate_segmentation
from core.utils.shown import ACTING, visible
from tools.cli import run
from tools.terminal import Visible, guard_terminal

EVIL = "a\x1b]0;title\x07\x9b2J\u202eb\u2028c\rd\x00"
SHOWN = "a\\u001b]0;title\\u0007\\u009b2J\\u202eb\\u2028c\\u000dd\\u0000"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminals(monkeypatch):
    """stdout and stderr as terminals, from here to the end of a test."""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "argv", ["x.py"])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.delenv("TTD_DEBUG", raising=False)
    return out, err


def started(main):
    with pytest.raises(SystemExit) as end:
        run(main)
    return end.value.code


def test_what_acts_is_shown_and_writing_is_left_alone():
    assert visible(EVIL) == SHOWN
    people = (
        "caf\u00e9 \u5bb6 \u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f33e\ufe0f a\tb\nc\u3000"
    )
    assert visible(people) == people
    every = "".join(map(chr, [*range(0x20000), *range(0xE0000, 0xE1000)]))
    kept = set(every) - set(ACTING.findall(every))
    controls = {char for char in kept if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")}
    assert controls == {"\t", "\n"}
    turning = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
    assert not any(unicodedata.bidirectional(char) in turning for char in kept)


def test_tables_messages_warnings_and_errors_of_a_script(monkeypatch):
    out, err = terminals(monkeypatch)

    def main():
        print("a table", EVIL, sep="\t")
        sys.stdout.writelines([EVIL, "\n"])
        # as the interpreter does with a warning
        sys.stderr.write(warnings.formatwarning(f"odd {EVIL}", UserWarning, "x.py", 1))
        raise RuntimeError(EVIL)

    assert started(main) == 2
    assert out.getvalue() == f"a table\t{SHOWN}\n{SHOWN}\n"
    one_line = SHOWN.replace("\\u2028", " ").replace("\\u000d", " ")
    assert f"x.py: odd {one_line}\n" in err.getvalue()
    assert f"unexpected RuntimeError: {one_line}" in err.getvalue()
    assert not set(err.getvalue()) & set(EVIL) & set("\x1b\x07\x9b\u202e\u2028\r\x00")


def test_the_traceback_of_debug(monkeypatch):
    import traceback

    _, err = terminals(monkeypatch)
    monkeypatch.setenv("TTD_DEBUG", "1")

    def main():
        raise RuntimeError(EVIL)

    with pytest.raises(RuntimeError) as error:
        run(main)
    traceback.print_exception(error.value)  # as the interpreter does, to sys.stderr
    assert "Traceback" in err.getvalue()
    assert not set(err.getvalue()) & set("\x1b\x9b\u202e")


def test_progress_bars_move_but_their_texts_do_not(monkeypatch):
    """Two bars, one below the other: what they send is what they send without names in them."""
    out, err = terminals(monkeypatch)
    plain = Terminal()

    def bars(stream, name):
        options = {"total": 2, "file": stream, "mininterval": 0, "ncols": 70}
        options["bar_format"] = "{desc} {n}{postfix}"
        with tqdm(desc=name, **options) as first, tqdm(desc="b", position=1, **options) as second:
            first.set_postfix_str(name)
            first.update()
            second.update()

    bars(plain, "NAME")
    guard_terminal()
    bars(sys.stderr, EVIL)
    assert err.getvalue().replace(SHOWN, "NAME") == plain.getvalue()
    assert "\x1b[A" in plain.getvalue() and not out.getvalue()
    tqdm.write(EVIL, file=sys.stdout)
    assert out.getvalue() == f"{SHOWN}\n"


def test_guarding_twice_is_guarding_once(monkeypatch):
    terminals(monkeypatch)
    guard_terminal()
    first = sys.stdout
    guard_terminal()
    assert sys.stdout is first and isinstance(first, Visible)
    assert first.isatty() and sys.stdout.write("abc\x1b") == 4


def test_a_wrong_argument_of_the_command_line(monkeypatch):
    _, err = terminals(monkeypatch)

    def main():
        return evaluate_segmentation.main(["--data", "x", "--pred", "y", "--no-such\x1b[2J"])

    assert started(main) == 2
    assert "\\u001b[2J" in err.getvalue() and "\x1b" not in err.getvalue()


def test_every_script_runs_through_the_guard():
    scripts = [*ROOT.glob("*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")]
    begins = 'if __name__ == "__main__"'
    started_here = [one for one in scripts if begins in one.read_text(encoding="utf-8")]
    assert len(started_here) > 20
    guarded = ("    run(main)", "    run_script(main)")
    for script in started_here:
        assert any(call in script.read_text(encoding="utf-8") for call in guarded), script.name
