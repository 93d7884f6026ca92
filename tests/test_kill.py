"""What scripts have produced survives a kill at any moment: run again, the same files.

tests/training/test_kill.py: the same of a training run. The fast tests kill within this process,
just before every call that makes something final; the slow ones send SIGKILL to processes.
"""

import functools
import itertools
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from kills import contents, run_until
from limits import limited
from mask_scripts import ENVIRONMENT, write_place
from paths import ROOT

import produce_boxes_from_text
import produce_masks_from_tags
import produce_masks_from_text
import produce_tags_from_text
from core.backbones import load_backbone
from core.errors import TTDError
from core.grounding.model import GroundingModel, model_config
from core.grounding.weights.checkpoint import save_model

SCRIPTS = {
    "tags": produce_tags_from_text,
    "masks": produce_masks_from_tags,
    "captions": produce_masks_from_text,
    "boxes": produce_boxes_from_text,
}
# Of SIGKILL, a minute for each ten on a quiet machine: TTD_TEST_EVERY_KILL=1 tries them all.
MOMENTS = range(1, 60, 1 if os.environ.get("TTD_TEST_EVERY_KILL") else 5)
CLOCKED = ("meta.json", "protocol.json", ".lock", "inputs")  # hold times or tokens


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, seven images with captions of which one is damaged, and a grounding model."""
    folder = write_place(tmp_path_factory.mktemp("place"))
    (folder / "set" / "images" / "p3.png").write_bytes(b"no image")
    backbone = load_backbone(f"local-dir:{folder / 'model'}", device="cpu")
    torch.manual_seed(0)
    config = model_config(backbone, heads=4, layers=1, feedforward=32, hidden=32)
    model = GroundingModel(backbone, config, train_visual_pos=False)
    save_model(model, folder / "boxes.safetensors", backbone.checksum, {})
    return folder


@pytest.fixture
def loaded_once(monkeypatch, place):
    """Models are read once for all runs of a test: what is killed is the writing."""
    import core.backbones
    import core.grounding.predict as predict

    monkeypatch.setenv("TTD_CACHE", str(place / "cache"))
    monkeypatch.setattr(core.backbones, "load_backbone", functools.cache(load_backbone))
    monkeypatch.setattr(predict, "load_grounder", functools.cache(predict.load_grounder))


def arguments(kind, place, out):
    """The command line of a production."""
    listed = ["--out", str(out), "--device", "cpu", "--batch", "2"]
    captions = str(place / "set" / "captions.jsonl")
    arch = ["--arch", f"local-dir:{place / 'model'}"]
    return (
        listed
        + {
            "tags": ["--root", captions, *arch],
            "masks": ["--data", str(place / "set/set.yaml"), *arch, "--rle", "--save-scores"],
            "captions": ["--data", captions, *arch],
            "boxes": ["--root", captions, "--grounder", str(place / "boxes.safetensors")],
        }[kind]
    )


def produced(out):
    """Every file that a production has made, and what its meta files count."""
    found = contents(out, CLOCKED)
    for path in sorted(out.rglob("*.meta.json")):
        meta = json.loads(path.read_text())
        found[path.name] = meta["finished"] and (meta["counts"], meta["bytes"])
    return found


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_kill_before_any_final_call_changes_nothing(kind, place, tmp_path, loaded_once):
    def run(out):
        SCRIPTS[kind].main(arguments(kind, place, out))

    run(tmp_path / "first")  # and what it leaves in the caches
    count = run_until(0, lambda: run(tmp_path / "whole"))
    want = produced(tmp_path / "whole")
    assert count >= 6 and len(want) > 2
    for fatal in range(1, count + 1):
        out = tmp_path / str(fatal)
        run_until(fatal, lambda out=out: run(out))
        for name, value in produced(out).items():  # what is not whole must not say so
            lines = name.replace(".meta.json", ".jsonl")
            assert (
                not name.endswith(".meta.json") or not value or produced(out)[lines] == want[lines]
            )
        run(out)
        assert produced(out) == want, f"killed at {fatal}"
        assert not list(out.rglob("*.part"))


def command(kind, place, out, *more):
    return [sys.executable, str(ROOT / SCRIPTS[kind].__name__) + ".py"] + [
        *arguments(kind, place, out),
        *more,
    ]


def start(line, place, kill_at=0, group=False):
    """Run a command to its end; with `kill_at`, it is killed before that call of os.replace."""
    killing = {"KILL_AT": str(kill_at), "KILL_GROUP": str(int(group))}
    paths = {"PYTHONPATH": str(ROOT / "tests/support/killing"), "TTD_CACHE": str(place / "cache")}
    return subprocess.run(
        line,
        env={**ENVIRONMENT, **paths, **killing},
        capture_output=True,
        text=True,
        timeout=600,
        start_new_session=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more", "group"),
    [
        ("tags", [], False),
        ("masks", [], False),
        ("masks", ["--workers", "2"], True),
        ("captions", ["--workers", "2"], False),
        ("boxes", [], False),
    ],
)
def test_sigkill_before_any_move(kind, more, group, place, tmp_path):
    """One and two processes; of two, both at once or one alone."""
    whole = start(command(kind, place, tmp_path / "whole", *more), place)
    assert whole.returncode in (0, 2) and "Traceback" not in whole.stderr, whole.stderr
    want = produced(tmp_path / "whole")
    for fatal in MOMENTS:
        out = tmp_path / str(fatal)
        killed = start(command(kind, place, out, *more), place, fatal, group)
        if killed.returncode == whole.returncode and "a process ended" not in killed.stderr:
            assert fatal > 1 and produced(out) == want
            return
        assert killed.returncode in (2, -9), killed.stderr
        assert "Traceback" not in killed.stderr, killed.stderr
        again = start(command(kind, place, out, *more), place)
        assert again.returncode == whole.returncode, again.stderr
        assert produced(out) == want, f"killed at {fatal}"
        assert not list(out.rglob("*.part"))
    raise AssertionError("more moves than files")


def training(place, out, processes):
    """A short training run on the captions."""
    script = [str(ROOT / "train_ttd.py"), "--device", "cpu", "--data"]
    script += [str(place / "set/captions.jsonl"), "--arch", f"local-dir:{place / 'model'}"]
    script += ["--steps", "4", "--batch", "2", "--scales", "1.0", "--out", str(out)]
    script += ["--set", "checkpoint_every=2", "--set", "log_every=1", "--set", "workers=1"]
    if processes == 1:
        return [sys.executable, *script]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *launcher, *script]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_sigkill_before_any_move_of_training(processes, place, tmp_path):
    clocked = ("settings.json", "train_log", "checkpoint.pt", "tb/", ".lock", "skipped")
    whole = start(training(place, tmp_path / "whole", processes), place)
    assert whole.returncode == 0, whole.stderr
    want = contents(tmp_path / "whole", clocked)
    assert len(want) == 4  # last, previous, finished, and the table of inputs
    for fatal in MOMENTS:
        out = tmp_path / str(fatal)
        killed = start(training(place, out, processes), place, fatal)
        if killed.returncode == 0:
            assert fatal > 1 and contents(out, clocked) == want
            return
        again = start(training(place, out, processes), place)
        assert again.returncode == 0, again.stderr
        assert contents(out, clocked) == want, f"killed at {fatal}"
        assert not list(out.rglob("*.part"))
    raise AssertionError("more moves than files")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks are POSIX's")
def test_the_kills_are_real():
    """The harness itself: the process ends by SIGKILL, at the call that was asked for."""
    code = (
        "import os, tempfile; name = tempfile.mkstemp()[1]; [os.replace(name, name) for _ in '123']"
    )
    for fatal, ended in ((1, -9), (3, -9), (4, 0)):
        done = start([sys.executable, "-c", code], ROOT, fatal)
        assert done.returncode == ended, done.stderr


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    kind, place, tmp_path, loaded_once, capsys
):
    """From the first byte on, at the first file, in the middle."""

    def run(out):
        SCRIPTS[kind].main(arguments(kind, place, out))

    run(tmp_path / "whole")
    want = produced(tmp_path / "whole")
    for size in (0, 60, 400):
        out = tmp_path / str(size)
        full = pytest.raises(TTDError, match=r"cannot be written \(File too large\)")
        with full as error, limited(size):
            run(out)
        assert "\n" not in str(error.value) and str(out) in str(error.value)
        assert not list(out.rglob("*.part"))
        run(out)
        assert produced(out) == want


@pytest.mark.parametrize(("kind", "moves"), [*((kind, 1) for kind in SCRIPTS), ("masks", 4)])
def test_a_folder_that_goes_away_is_one_line(
    kind, moves, place, tmp_path, loaded_once, monkeypatch
):
    import core.utils.files

    out, number = tmp_path / "out", itertools.count(1)
    real = os.replace

    def replace(source, target):
        real(source, target)
        if next(number) == moves:
            while out.exists():  # another thread may be writing
                shutil.rmtree(out, ignore_errors=True)

    monkeypatch.setattr(core.utils.files.os, "replace", replace)
    with pytest.raises(TTDError, match=r"cannot be written \(its folder is gone\)") as error:
        SCRIPTS[kind].main(arguments(kind, place, out))
    assert "\n" not in str(error.value) and str(out) in str(error.value)
