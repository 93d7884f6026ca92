"""Ctrl-C twice while every producer and the trainer work: no traceback, and resuming loses nothing.

Both signals go to all processes of the run, as a terminal sends them.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from hostile_runs import arguments, commands, outputs, place
from paths import ROOT
from small_pairs import write_jsonl

COUNT = 60
# What differs between any two runs.
UNLIKE = (".json", ".lock", ".pt", "skipped.jsonl", "train_log.jsonl")
LONGER = {
    "produce_tags_from_text": {"--limit": None, "--batch": 2},
    "produce_masks_from_text": {"--limit": None, "--workers": 2, "--image": 64},
    "produce_boxes_from_text": {"--batch": 2},
    "train_ttd": {
        **{"--dry-run": None, "--steps": 40, "--checkpoint-every": 2, "--eval-every": 1000},
        **{"--set": ["stall_percent=0"]},
    },
}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    found = place(folder)
    return found | {"list": write_jsonl(folder / "many" / "list.jsonl", COUNT)}


def heard():
    """Of tests that run in the background, SIGINT would be ignored from the start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(script, there, out):
    """A process of a script in a group of its own."""
    out.mkdir(exist_ok=True)
    options = {**commands(there, out)[script], **LONGER[script]}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TTD_CACHE": str(out.parent / "cache")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / f"{script}.py"), *arguments(options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=out,
        env=environment,
        start_new_session=True,
        preexec_fn=heard,
    )


def finish(process):
    _, said = process.communicate(timeout=300)
    assert "Traceback" not in said and "unexpected" not in said, said
    return process.returncode, said


def results(out):
    files = {str(path.relative_to(out)): path.read_bytes() for path in outputs(out)}
    return {name: data for name, data in files.items() if not name.endswith(UNLIKE)}


def written(out):
    """Bytes of what has been made so far, checkpoints too."""
    made = [path for path in outputs(out) if path.suffix != ".json" or path.name == "settings.json"]
    return sum(map(size, made))


def size(path):
    """Bytes; 0 for a file that is away again: the process writes under another name first."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def interrupt(process, out, pause):
    """Two signals to the group, the first when there is something new to lose."""
    before, began = written(out), time.monotonic()
    while written(out) <= before and process.poll() is None and time.monotonic() - began < 200:
        time.sleep(0.01)
    for _ in range(2):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(pause)


@pytest.mark.slow
@pytest.mark.parametrize("script", LONGER)
def test_two_interrupts_lose_nothing(script, there, tmp_path):
    assert finish(start(script, there, tmp_path / "whole"))[0] == 0
    for pause in (0.0, 0.05, 0.5):
        process = start(script, there, tmp_path / "cut")
        interrupt(process, tmp_path / "cut", pause)
        code, said = finish(process)
        # The second signal may come when Python itself is ending, without its handlers.
        assert code in (0, 130, -signal.SIGINT), said
    assert finish(start(script, there, tmp_path / "cut"))[0] == 0
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
