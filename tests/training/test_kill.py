"""A training run that is killed just before anything becomes final ends as if it had not been."""

import json
from dataclasses import replace

import pytest
import torch
from kills import contents, run_until
from line_task import LineTask, fit, lines, on_a_line
from safetensors import safe_open

from core.training.storage.keeper import Keeper
from core.training.storage.run_dir import digest

CLOCKED = ("settings.json", "train_log.jsonl", "checkpoint.pt", "tb/", ".lock")


class Scored(LineTask):
    """The best score comes in the middle, so that the best export is not the last."""

    evaluates = True

    def evaluate(self, ranks):
        return {"good": -abs(float(self.slope.detach()) - 0.15)}


@pytest.fixture
def config(config):
    return replace(config, steps=4, eval_every=2, checkpoint_every=3)


def train(config):
    return fit(Scored(config, on_a_line(7)))


def steps_of(config):
    """The step that each export says it is of."""
    found = {}
    for name in ("previous", "last", "best"):
        with safe_open(config.folder / f"{name}.safetensors", "pt") as file:
            found[name] = int(file.metadata()["step"])
    return found


def state_of(config):
    return torch.load(config.folder / "checkpoint.pt", weights_only=True)


def test_an_unbroken_run_has_the_exports_that_it_says(config):
    outcome = train(config)
    assert steps_of(config) == {"previous": 3, "last": 4, "best": outcome.best_step}
    assert outcome.best_step == 2
    state = state_of(config)
    assert state["step"] == 4 and state["earlier"] == 3
    for name in ("last", "previous"):
        assert state["exports"][name] == digest(config.folder / f"{name}.safetensors")


def test_a_kill_before_any_final_call_changes_nothing(config):
    """Every file of the end, the log and the whole state, for a kill at each moment of the run."""
    count = run_until(0, lambda: train(config))
    want, logged, state = contents(config.folder, CLOCKED), losses_of(config), state_of(config)
    assert count > 40 and set(want) >= {"best.safetensors", "model.safetensors"}
    for fatal in range(1, count + 1):
        killed = replace(config, out=f"{config.out}_{fatal}")
        run_until(fatal, lambda killed=killed: train(killed))
        train(killed)
        assert contents(killed.folder, CLOCKED) == want, f"killed at {fatal}"
        assert losses_of(killed) == logged, f"killed at {fatal}"
        assert str(state_of(killed)) == str(state), f"killed at {fatal}"


def losses_of(config):
    return [(line["step"], line.get("loss"), line.get("heldout")) for line in lines(config)]


def test_two_kills_in_one_run(config):
    count = run_until(0, lambda: train(config))
    want = contents(config.folder, CLOCKED)
    for first in range(9, count, 20):
        killed = replace(config, out=f"{config.out}_{first}")
        run_until(first, lambda killed=killed: train(killed))
        run_until(4, lambda killed=killed: train(killed))
        train(killed)
        assert contents(killed.folder, CLOCKED) == want


def test_after_a_kill_the_exports_are_those_of_the_checkpoint_at_once(config, monkeypatch):
    """Before another step is made: what a message names as the last good one must be it."""
    count = run_until(0, lambda: train(config))
    mended = Keeper.mend

    def stop_after_mending(keeper, step):
        mended(keeper, step)
        raise KeyboardInterrupt

    for fatal in range(count // 2, count + 1, 2):
        killed = replace(config, out=f"{config.out}_{fatal}")
        run_until(fatal, lambda killed=killed: train(killed))
        if not (killed.folder / "checkpoint.pt").exists():
            continue
        with monkeypatch.context() as patch:
            patch.setattr(Keeper, "mend", stop_after_mending)
            with pytest.raises(KeyboardInterrupt):
                train(killed)
        state = state_of(killed)
        exports = {name: killed.folder / f"{name}.safetensors" for name in ("last", "previous")}
        assert digest(exports["last"]) == state["exports"]["last"]
        assert digest(exports["previous"]) == state["exports"].get("previous", "")
        best = state["scores"].get("best", {}).get("step")
        if best is not None:
            assert steps_of(killed)["best"] == best


@pytest.mark.parametrize("name", ["last", "previous", "best"])
@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_an_export_that_was_damaged_by_others_does_not_stop_a_run(config, name, damage):
    train(config)
    want = contents(config.folder, CLOCKED)
    again = replace(config, out=config.out + "_again")
    asked = iter([False, True])
    fit(Scored(again, on_a_line(7)), should_stop=lambda: next(asked))
    export = again.folder / f"{name}.safetensors"
    if damage == "removed":
        export.unlink()
    else:
        export.write_bytes(export.read_bytes()[:10])
    train(again)
    assert contents(again.folder, CLOCKED) == want


def test_the_marks_of_a_run_are_on_the_disk_before_they_count(config, monkeypatch):
    """fsync of the file, then the move, then fsync of the folder, for every file of a run."""
    import os

    calls = []
    real = {"replace": os.replace, "fsync": os.fsync}

    def fsync(handle):
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        real["fsync"](handle)

    def move(source, target):
        calls.append(("replace", str(source), str(target)))
        real["replace"](source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no names of open files here")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", move)
    train(config)
    moves = [at for at, call in enumerate(calls) if call[0] == "replace"]
    names = {calls[at][2].rsplit("/", 1)[1] for at in moves}
    assert names >= {"checkpoint.pt", "model.safetensors", "previous.safetensors", "settings.json"}
    for at in moves:
        _, source, target = calls[at]
        assert calls[at - 1] == ("fsync", source)
        assert calls[at + 1] == ("fsync", os.path.dirname(target))
    assert json.loads((config.folder / "settings.json").read_text())["identity"]
