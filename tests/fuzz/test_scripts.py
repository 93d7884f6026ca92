"""Hostile files and values in every option: one line and exit code 2, or a result."""

import random
import shutil

import open_clip  # noqa: F401  # here: its import takes longer than a reader may
import pytest
from hostile_files import corpus, executed
from hostile_runs import SCRIPTS, arguments, call, commands, options_of, place
from hostile_values import FRACTIONS, STRINGS, WHOLE
from mutations import scaled

TRIED = []  # hostile inputs so far


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    return place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("hostile"))


def cases(script, hostile):
    """(option, value) for every option of a script."""
    texts, whole, fractions = options_of(script)
    for name in texts:
        yield from ((name, str(path)) for path in hostile.values())
        yield from ((name, text) for text in STRINGS)
    for names, values in ((whole, WHOLE), (fractions, FRACTIONS)):
        yield from ((name, value) for name in names for value in values)


def attempt(script, name, value, there, out, monkeypatch):
    """A line about what went wrong with one hostile value, None where nothing did."""
    options = {**commands(there, out)[script]}
    options.pop("", None) if name == "" else None
    options[name] = value
    monkeypatch.chdir(out)
    if value.startswith("-") and name:
        argv = [*arguments({k: v for k, v in options.items() if k != name}), f"{name}={value}"]
    else:
        argv = arguments(options)
    seen = call(script, argv)
    TRIED.append((script, name))
    return f"{script} {name} {value[-60:]!r}: {seen.fault}" if seen.fault else None


def attack(script, chosen, there, tmp_path, monkeypatch):
    """The faults of a script over the chosen cases, each in a folder of its own."""
    faults = []
    for number, (name, value) in enumerate(chosen):
        out = tmp_path / str(number)
        out.mkdir()
        faults.append(attempt(script, name, value, there, out, monkeypatch))
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(out, ignore_errors=True)
    return list(filter(None, faults))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_valid_command_ends_well(script, there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    seen = call(script, arguments(commands(there, tmp_path)[script]))
    assert seen.code == 0 and not seen.fault, seen


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_hostile_values(script, there, hostile, tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    chosen = list(cases(script, hostile))
    random.Random(script).shuffle(chosen)
    faults = attack(script, chosen[: scaled(120)], there, tmp_path, monkeypatch)
    assert not faults, "\n".join(faults)
    assert not executed(next(iter(hostile.values())).parents[1])


@pytest.mark.slow
def test_a_thousand_were_tried():
    print(f"{len(TRIED)} hostile inputs: 0 tracebacks, 0 hangs")
    assert len(TRIED) >= scaled(1000)
