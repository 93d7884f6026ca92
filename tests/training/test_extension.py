"""A finished run with more steps: a new schedule from the last weights."""

import json
import math
from contextlib import closing
from dataclasses import replace

import pytest
from line_task import LineTask, fit, lines, on_a_line

from core.errors import TTDError
from core.training.schedules import learning_rate
from core.training.trainer import Trainer


def rates(config):
    return [line["lr"] for line in lines(config)]


def test_more_steps_begin_a_new_schedule_at_the_last_weights(config):
    first = LineTask(config, on_a_line(12))
    fit(first)
    slope = float(first.slope.detach())
    more = replace(config, steps=10)
    task = LineTask(more, on_a_line(12))
    with closing(Trainer(task)) as trainer:
        assert trainer.step == 6 and float(task.slope.detach()) == slope
        trainer.run()
    shares = [1 / 2, 1, 1, (1 + math.cos(math.pi / 2)) / 2]  # warm-up of 2, then half a cosine of 2
    assert rates(more)[6:] == pytest.approx([0.1 * share for share in shares])
    assert [line["step"] for line in lines(more)] == list(range(1, 11))
    stored = json.loads((config.folder / "settings.json").read_text())
    assert stored["schedule_start"] == 6 and stored["identity"]["steps"] == 10


def test_an_extension_that_was_stopped_resumes_with_the_same_end(config, tmp_path):
    ends = []
    for name, stops in (("a", False), ("b", True)):
        own = replace(config, out=str(tmp_path / name))
        fit(LineTask(own, on_a_line(12)))
        more = replace(own, steps=10)
        if stops:
            asked = iter([False, True])
            fit(LineTask(more, on_a_line(12)), should_stop=lambda asked=asked: next(asked))
            assert len(lines(more)) == 8
        task = LineTask(more, on_a_line(12))
        fit(task)
        ends.append((float(task.slope.detach()), float(task.offset.detach()), rates(more)))
    assert ends[0] == ends[1]


def test_it_may_be_extended_twice(config):
    for steps in (6, 8, 12):
        fit(LineTask(replace(config, steps=steps), on_a_line(12)))
    last = rates(replace(config, steps=12))[8:]
    assert last == pytest.approx([0.05, 0.1, 0.1, 0.05])


@pytest.mark.parametrize("changes", [{"steps": 4}, {"steps": 10, "lr": 0.2}, {"lr": 0.2}])
def test_nothing_else_may_differ(config, changes):
    fit(LineTask(config, on_a_line(12)))
    with pytest.raises(TTDError, match="other settings"):
        fit(LineTask(replace(config, **changes), on_a_line(12)))


def test_an_unfinished_run_keeps_its_schedule(config):
    asked = iter([False, True])
    fit(LineTask(config, on_a_line(12)), should_stop=lambda: next(asked))
    with pytest.raises(TTDError, match="steps: 6, not 10"):
        fit(LineTask(replace(config, steps=10), on_a_line(12)))


@pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
def test_a_schedule_is_the_same_wherever_it_begins(config, schedule):
    own = replace(config, steps=40, schedule=schedule, lr_drop_every=5)
    later = replace(own, steps=140)
    for step in range(40):
        assert learning_rate(100 + step, later, 100) == learning_rate(step, own)
