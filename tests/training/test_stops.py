"""How a run ends when something goes wrong: numbers, health, a loss that stands still."""

import math
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from line_task import LineTask, fit, lines, on_a_line
from safetensors.torch import load_file

from core.errors import TTDError
from core.training.trainer import Trainer


class Spoiled(LineTask):
    """The loss of step `at` is multiplied by `factor`."""

    at, factor = 3, math.nan

    def loss(self, batch, step):
        loss, values = super().loss(batch, step)
        return (loss * self.factor if step.number == self.at else loss), values


@pytest.mark.parametrize("factor, said", [(math.nan, "loss is nan"), (math.inf, "loss is inf")])
def test_a_number_that_is_not_finite_stops_before_the_update(config, factor, said):
    task = Spoiled(config, on_a_line(7))
    task.factor = factor
    with pytest.raises(TTDError, match=f"stopped at step 4: {said}; the last good line is .*p 2"):
        fit(task)
    assert torch.isfinite(task.slope) and lines(config)[-1]["stopped"] == said
    assert float(load_file(config.folder / "last.safetensors")["slope"]) != 0


def test_an_infinite_gradient_of_a_finite_loss_stops(config):
    class Root(LineTask):
        def loss(self, batch, step):
            return self.slope.sqrt() + 0 * self.offset, {}

    with pytest.raises(TTDError, match="stopped at step 1: grad_norm is (inf|nan)"):
        fit(Root(config, on_a_line(7)))


def test_a_parameter_without_a_gradient_is_named(config):
    class Forgetful(LineTask):
        def loss(self, batch, step):
            return self.slope.square(), {}

    with pytest.raises(TTDError, match="1 parameters of the line get no gradient, such as offset"):
        fit(Forgetful(config, on_a_line(7)))


def test_health_stops_and_names_what_was_exported_before(config):
    class Sick(LineTask):
        window = 2

        def health(self, step, values):
            return "it is sick" if step == 4 else None

    with pytest.raises(TTDError, match=r"step 5: it is sick; .*previous.safetensors \(step 2\)"):
        fit(Sick(config, on_a_line(7)))


def test_float16_skips_what_overflows_and_goes_on(config):
    task = Spoiled(replace(config, dtype="float16"), on_a_line(7))
    task.factor = math.inf
    before = []
    fit(task, progress=lambda step, values: before.append(float(task.slope.detach())))
    assert before[3] == before[2] != before[4]  # step 4 changed nothing, and the run went on
    found = lines(config)
    assert [line["skipped_updates"] for line in found] == [0, 0, 0, 0, 1, 1]
    assert [line["loss_scale"] for line in found] == [65536.0] * 4 + [32768.0] * 2
    assert "loss" not in found[3] and found[2]["grad_norm"] < 10  # unscaled
    exact = LineTask(replace(config, steps=3, out=config.out + "_exact"), on_a_line(7))
    exact.config = replace(exact.config, steps=6)
    with closing(Trainer(exact)) as trainer:
        asked = iter([False, False, True])
        trainer.run(should_stop=lambda: next(asked))
    assert before[2] == pytest.approx(float(exact.slope.detach()), rel=1e-5)


def test_float16_that_overflows_for_good_stops(config):
    class Always(LineTask):
        def loss(self, batch, step):
            return super().loss(batch, step)[0] * math.inf, {}

    config = replace(config, dtype="float16", steps=60)
    with pytest.raises(TTDError, match="step 20: float16 overflowed in 20 steps in a row"):
        fit(Always(config, on_a_line(7)))


def test_a_loss_that_stands_still_stops_with_one_line(config):
    class Still(LineTask):
        def loss(self, batch, step):
            return 5 + 0 * super().loss(batch, step)[0], {}

    config = replace(config, steps=1000, batch=1, checkpoint_every=500, stall_percent=25.0)
    with pytest.raises(TTDError, match=r"step 250: the loss has not moved in 250 steps \(5 at"):
        fit(Still(config, on_a_line(3)))
    off = replace(config, stall_percent=0.0, steps=300, out=config.out + "_off")
    assert fit(Still(off, on_a_line(3))).step == 300


def test_the_watch_over_the_loss_survives_a_resume(config):
    class Still(LineTask):
        def loss(self, batch, step):
            return 5 + 0 * super().loss(batch, step)[0], {}

    config = replace(config, steps=400, batch=1, checkpoint_every=500)
    asked = iter([False] * 149 + [True])
    fit(Still(config, on_a_line(3)), should_stop=lambda: next(asked))
    with pytest.raises(TTDError, match="step 200: the loss has not moved in 200 steps"):
        fit(Still(config, on_a_line(3)))


def test_the_loss_scale_survives_a_resume(config):
    task = Spoiled(replace(config, dtype="float16"), on_a_line(7))
    task.factor = math.inf
    asked = iter([False] * 4 + [True])
    fit(task, should_stop=lambda: next(asked))
    fit(Spoiled(task.config, on_a_line(7)))
    found = lines(config)[-1]
    assert (found["loss_scale"], found["skipped_updates"]) == (32768.0, 1)


def test_a_skipped_update_is_no_update(config):
    """The EMA counts updates: the step that overflowed does not move it."""

    class Counted(Spoiled):
        calls = ()

        def after_step(self, step):
            self.calls += (step,)

    task = Counted(replace(config, dtype="float16"), on_a_line(7))
    task.factor = math.inf
    fit(task)
    assert task.calls == (0, 1, 2, 4, 5)
