"""train_tcl.py from its command line: processes, kill -9, missing shards, dry run."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from paths import ROOT
from small_pairs import write_set, write_shards

STEPS, THAW = 5, 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a set of 16 pairs, shards of them, and the index's cache."""
    folder = tmp_path_factory.mktemp("tcl")
    write_set(folder, 16)
    write_shards(folder / "shards", (5, 4))
    return folder


@pytest.fixture
def settings(small_clip, place, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        f"arch: local-dir:{small_clip}\ndata: cc3m\nroot: {place}\nsteps: {STEPS}\nbatch: 8\n"
        f"lr: 1e-3\nlr_floor: 0.1\nwarmup: 1\nthaw_at: {THAW}\nweight_decay: 0.05\nstages: 1\n"
        "checkpoint_every: 1\nlog_every: 1\ndevice: cpu\nthreads: 1\nworkers: 1\n"
    )
    return path


def start(place, settings, out, *options, **environment):
    """A process of train_tcl.py."""
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TTD_CACHE": str(place / "cache")}
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "train_tcl.py"),
            *("--config", str(settings), "--out", str(out)),
            *map(str, options),
        ],
        env={**os.environ, **own, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(place, settings, out, *options, world=1):
    """In `world` processes: [(exit code, stdout, stderr)]."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    processes = []
    for rank in range(world):
        several = {} if world == 1 else {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(start(place, settings, out, *options, **several))
    ends = [process.communicate(timeout=600) for process in processes]
    return [(p.returncode, *end) for p, end in zip(processes, ends, strict=True)]


def log(out):
    """The values of every step."""
    lines = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "pairs_per_s"} for line in lines]


def weights(out):
    return torch.load(out / "TCL.pth")["model"]


@pytest.fixture(scope="module")
def alone(small_clip, place, tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    path = settings.__wrapped__(small_clip, place, folder)
    [(code, _, said)] = run(place, path, folder / "run")
    assert code == 0, said
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_processes_train_the_same(place, settings, alone, tmp_path, world):
    """Losses, gradient norms and weights after five steps, the copied block thawed at the third."""
    ends = run(place, settings, tmp_path / "run", world=world)
    assert all(code == 0 for code, _, _ in ends), ends
    assert all(out == "" for _, out, _ in ends[1:])
    for ours, theirs in zip(log(alone), log(tmp_path / "run"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    mine = weights(alone)
    for name, value in weights(tmp_path / "run").items():
        assert (value - mine[name]).abs().max() < 1e-5, name


@pytest.mark.slow
def test_parity_trains_something_else_on_two_processes(place, settings, alone, tmp_path):
    ends = run(place, settings, tmp_path / "run", "--parity", world=2)
    assert all(code == 0 for code, _, _ in ends), ends
    ours, theirs = log(alone)[0], log(tmp_path / "run")[0]
    assert abs(ours["tclf_loss"] - theirs["tclf_loss"]) > 1e-6
    for name in ("tcli_loss", "neg_area_loss", "tv_img_loss", "tv_mask_loss"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name


def killed_and_resumed(place, settings, out, moments):
    """Kill a run at some moments (seconds), then let it end."""
    for moment in moments:
        process = start(place, settings, out)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    [(code, _, said)] = run(place, settings, out)
    assert code == 0, said


@pytest.mark.slow
def test_kill_9_after_the_first_checkpoint(place, settings, alone, tmp_path):
    out = tmp_path / "run"
    process = start(place, settings, out)
    until = time.monotonic() + 300
    while time.monotonic() < until and not _steps(out):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert _steps(out) > 0
    killed_and_resumed(place, settings, out, ())
    assert (out / "TCL.pth").read_bytes() == (alone / "TCL.pth").read_bytes()
    assert log(out) == log(alone)


def _steps(out):
    path = out / "train_log.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_kill_9_at_ten_random_moments(place, settings, alone, tmp_path):
    draw = random.Random(0)
    moments = [draw.uniform(2, 12) for _ in range(10)]
    killed_and_resumed(place, settings, tmp_path / "run", moments)
    assert (tmp_path / "run" / "TCL.pth").read_bytes() == (alone / "TCL.pth").read_bytes()


def test_a_missing_shard_is_one_line(place, settings, tmp_path):
    shards = f"{place}/shards/{{00000..00002}}.tar"
    [(code, _, said)] = run(place, settings, tmp_path / "run", "--data", shards)
    assert code == 2 and said.count("\n") == 1 and "00002.tar" in said


def test_dry_run_says_phases_and_writes_nothing(place, settings, tmp_path):
    shards = f"{place}/shards/{{00000..00001}}.tar"
    options = ("--data", shards, "--batch", "4", "--dry-run")
    [(code, out, said)] = run(place, settings, tmp_path / "run", *options)
    assert code == 0, said
    assert "9 pairs" in out and f"parameters from step {THAW} on" in out
    assert "learning rate 0.0005" in out  # half the recipe's batch
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_what_is_wrong_is_one_line(place, settings, tmp_path):
    for options, text in (
        (("--arch", "tiny"), "class token"),
        (("--grad-accum-steps", "2"), "compares all pairs"),
        (("--image", "30"), "multiple of the patch"),
        (("--resume-from", str(settings)), "small.yaml"),
    ):
        [(code, _, said)] = run(place, settings, tmp_path / "run", *options)
        assert code == 2 and text in said.splitlines()[-1], said
