"""What a run says of itself before it starts."""

from contextlib import closing
from dataclasses import replace

import pytest
import torch
from line_task import LineTask, PhasedTask, on_a_line

from core.data.records import Skipped
from core.training.config import RunConfig
from core.training.preflight import Recipe, duration, phase_starts, preflight, reasons
from core.training.trainer import Trainer


@pytest.fixture
def config(tmp_path):
    return RunConfig(steps=14, batch=6, grad_accum_steps=2, lr=0.1, out=str(tmp_path / "run"))


def said(task, recipe=None):
    with closing(Trainer(task)) as trainer:
        lines = list(preflight(trainer, recipe))
    return dict(line.split(": ", 1) for line in lines)


def test_every_line_of_a_small_run(config, tmp_path):
    lines = said(PhasedTask(config, on_a_line(12)), Recipe("r.yaml", 3, 0.05, True))
    assert lines["data"] == "12 points to train on, 1 found that cannot be used"
    assert lines["skipped"] == "1 not a point"
    assert lines["batch"] == (
        "6 = 1 process x 2 micro-batches x 3, learning rate 0.1; the recipe r.yaml has 3 and "
        "0.05: scaled by 6/3 (--no-scale-lr keeps 0.05)"
    )
    assert lines["steps"] == "14, 7 epochs of 12 points"
    assert lines["parameters"] == "slope 1 trained, offset 1 frozen"
    assert lines["parameters from step 3 on"] == "slope 1 trained, offset 1 trained"
    assert "3 timed" in lines["time"] and "memory at the peak" in lines["time"]
    assert lines["disk"].startswith("about 0 MB") and "free" in lines["disk"]
    assert lines["writes"] == f"everything into {tmp_path / 'run'}"


def test_a_batch_that_the_rate_was_not_scaled_by_is_said(config):
    lines = said(LineTask(config, on_a_line(12)), Recipe("r.yaml", 3, 0.1, False))
    assert lines["batch"].endswith("has 3 and 0.1: not scaled by the batch")
    same = said(
        LineTask(replace(config, out=config.out + "2"), on_a_line(12)),
        Recipe("r.yaml", 6, 0.1, False),
    )
    assert same["batch"].endswith("has 6 and 0.1")


def test_too_little_disk_is_said(config, monkeypatch):
    monkeypatch.setattr("core.training.preflight.free_space", lambda folder: 10)
    assert "NOT ENOUGH" in said(LineTask(config, on_a_line(12)))["disk"]


def test_the_need_of_disk_is_about_what_a_run_leaves(config, monkeypatch):
    from core.training.preflight import disk_need

    class Wide(LineTask):
        def __init__(self, *args):
            super().__init__(*args)
            self.offset = torch.nn.Parameter(torch.zeros(100_000))

        def loss(self, batch, step):
            loss = (self.slope * batch[:, 0] - batch[:, 1]).square().mean()
            return loss + self.offset.square().mean(), {}

        def optimizers(self, groups):
            return [torch.optim.AdamW(groups)]

    with closing(Trainer(Wide(config, on_a_line(12)))) as trainer:
        need = disk_need(trainer)
        trainer.run()
    used = sum(path.stat().st_size for path in config.folder.iterdir())
    assert used < need < 2.2 * used


def test_phases_are_found_wherever_they_begin(config):
    class Late(PhasedTask):
        def groups(self, step):
            slope, offset = super().groups(step)
            return [slope, replace(offset, frozen=step < 29_999)]

    task = Late(replace(config, steps=50_000), on_a_line(3))
    assert phase_starts(task, 0, 49_999) == [29_999]
    assert phase_starts(LineTask(config, on_a_line(3)), 0, 13) == []


def test_reasons_are_counted_without_what_differs_between_samples():
    skipped = [
        Skipped(0, "a", "bad caption file, wanted something (line 3)"),
        Skipped(1, "b", "bad caption file, wanted something (line 9)"),
        Skipped(2, "c", "damaged or compressed tar: unexpected end"),
    ]
    assert reasons(skipped) == ["2 bad caption file", "1 damaged or compressed tar"]


def test_durations_are_read_at_a_glance():
    assert [duration(s) for s in (50, 720, 12600, 181440)] == [
        "50 s",
        "12 min",
        "3.5 h",
        "2.1 days",
    ]
