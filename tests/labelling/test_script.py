"""label_shards.py from its command line: engines, parts, the dry run, refusals."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from kills import contents
from paths import ROOT
from small_labels import rows_of, settings_for, small_set
from small_pairs import write_shards

import label_shards as script
from core.errors import TTDError
from core.labelling.manifest import NAME, shards_of
from tools.label_pool import run_local


@pytest.fixture
def arguments(small_clip, tmp_path):
    pattern = small_set(tmp_path / "in", (2, 1, 2))
    model = ["--arch", f"local-dir:{small_clip}", "--device", "cpu"]
    masks = ["--image", "40", "--bg", "0.002", "--want", "tags", "masks", "boxes"]
    return ["--shards", pattern, *model, *masks]


def test_local_then_the_same_by_ranks_and_by_parts(arguments, tmp_path, monkeypatch, capsys):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert script.main([*arguments, "--out", str(one), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "3 made, 0 kept, 0 failed; 5 pairs" in said and "the model" in said
    assert script.main([*arguments, "--out", str(one), "--workers", "1"]) == 0
    assert "0 made, 3 kept" in capsys.readouterr().out
    for rank in range(2):
        for name, value in (("RANK", rank), ("WORLD_SIZE", 2), ("LOCAL_RANK", rank)):
            monkeypatch.setenv(name, str(value))
        assert not (two / NAME).exists()
        assert script.main([*arguments, "--out", str(two)]) == 0
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name)
    for part, words in (("0/2", "1 shards of other processes or parts"), ("1/2", "3 shards in _m")):
        more = ["--part", part, "--workers", "1", "--out", str(three)]
        assert script.main([*arguments, *more]) == 0
        assert words in capsys.readouterr().out
    assert contents(one) == contents(two) == contents(three)
    assert len(rows_of(one / NAME)) == 3


def test_the_dry_run_projects_from_a_sample(arguments, tmp_path, capsys):
    more = ["--out", str(tmp_path / "out"), "--dry-run", "--price", "2", "--workers", "4"]
    assert script.main([*arguments, *more]) == 0
    said = capsys.readouterr().out
    assert "3 shards" in said and "whole: about 5 pairs" in said and "cost: " in said
    assert "by 4 workers" in said and not (tmp_path / "out").exists()
    lost = str(tmp_path / "in/{00000..00003}.tar")
    assert script.main([*arguments, *more, "--shards", lost]) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--want", "boxes"], "boxes are those of masks"),
        (["--want", "masks", "--draft", "--pamr"], "leave out one"),
        (["--want", "tags", "--png"], "add masks"),
        (["--threshold", "0.4"], "only with --fixed"),
        (["--fixed", "--threshold", "nan"], "finite"),
        (["--crf"], "use --pamr"),
        (["--part", "2/2"], "I/N"),
        (["--engine", "torchrun"], "no launcher"),
        (["--gpus", "x", "--want", "tags"], "not GPU numbers"),
        (["--shards", "/nowhere/*.tar"], "no such shards"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, more, words):
    base = ["--shards", str(tmp_path / "{0..1}.tar"), "--out", str(tmp_path / "out")]
    with pytest.raises(TTDError, match=words) as raised:
        script.main([*base, *more])
    assert "\n" not in str(raised.value)


def test_without_pyarrow_it_says_what_to_install(arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TTDError, match="pip install -r requirements-labels.txt"):
        script.main(arguments)


def test_without_ray_it_says_what_to_install(arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TTDError, match="pip install -r requirements-ray.txt"):
        script.main([*arguments, "--engine", "ray"])


def test_a_process_of_torchrun_does_not_end_the_others(small_clip, tmp_path, monkeypatch, capsys):
    """It ends all when one fails: only the last of them says that shards failed."""
    write_shards(tmp_path / "in", (1, 1, 1, 1))
    (tmp_path / "in/00000.tar").write_bytes(b"no tar")
    monkeypatch.setattr("core.labelling.shard.PAUSE", 0.0)
    arguments = ["--shards", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    arguments += ["--arch", f"local-dir:{small_clip}", "--device", "cpu"]
    codes = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1, 0):
        monkeypatch.setenv("RANK", str(rank))
        codes.append(script.main(arguments))
    assert codes == [0, 2, 2] and "1 shards could not be labelled" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(small_clip, tmp_path):
    """Of two processes one is killed with a shard in its hands; another makes that shard."""
    pattern = small_set(tmp_path / "in", (4,) * 8)
    settings, shards = settings_for(small_clip), shards_of([pattern])
    whole = list(run_local(shards, settings, str(tmp_path / "one"), ["cpu"]))
    killed, states = [], []
    for report in run_local(shards, settings, str(tmp_path / "two"), ["cpu", "cpu"]):
        states.append((report.shard, report.state))
        if not killed:
            killed.append(_kill_a_child())
    assert killed and {one.state for one in whole} == {"made"}
    assert {state for _, state in states} <= {"made", "kept"}
    assert sorted(name for name, _ in states) == sorted(one.name for one in shards)
    names = {f"{one.name}.parquet" for one in shards}
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert {name: one[name] for name in names} == {name: two[name] for name in names}


def _kill_a_child():
    import multiprocessing

    child = multiprocessing.active_children()[0]
    os.kill(child.pid, signal.SIGKILL)
    return child.pid


@pytest.mark.slow
def test_everything_killed_at_once_resumes_to_the_same_bytes(arguments, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "label_shards.py", *arguments, "--workers", "2", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.parquet")) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert script.main([*arguments, "--workers", "1", "--out", str(out)]) == 0
    assert script.main([*arguments, "--workers", "1", "--out", str(whole)]) == 0
    assert contents(out) == contents(whole)


def test_threads_of_this_test_run_end():
    """The pools above leave no thread that reads images."""
    assert not [one for one in threading.enumerate() if one.name.startswith("prefetch")]
