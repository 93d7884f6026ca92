"""The training loop on a line through points, against values worked out by hand."""

import json
import math
from contextlib import closing
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from line_task import ContrastTask, LineTask, PhasedTask, Points, fit, lines, on_a_line

from core.errors import TTDError
from core.training.trainer import Trainer


def without_rates(config):
    """The log's lines without what depends on the clock."""
    kept = []
    for line in lines(config):
        line.pop("points_per_s", None)
        kept.append(line)
    return kept


def losses(config):
    return [line["loss"] for line in lines(config)]


def test_one_step_by_hand(config):
    """x = 2, y = 3, both parameters 0: loss 9, gradients -12 and -6, rate 0.1 / 2."""
    task = LineTask(replace(config, steps=1), Points([(2, 3)] * 4))
    fit(task)
    (line,) = lines(config)
    assert line["loss"] == 9.0 and line["mean_x"] == 2.0 and line["step"] == 1
    assert line["lr"] == pytest.approx(0.05)
    assert line["grad_norm"] == pytest.approx(math.hypot(12, 6), rel=1e-6)
    assert float(task.slope.detach()) == pytest.approx(0.6)
    assert float(task.offset.detach()) == pytest.approx(0.3)
    assert task.ema == pytest.approx(0.06)  # 0.9 * 0 + 0.1 * 0.6


def test_the_gradient_is_clipped_to_its_norm_over_all_parameters(config):
    task = LineTask(replace(config, steps=1, grad_clip=3.0), Points([(2, 3)] * 4))
    fit(task)
    share = 3 / math.hypot(12, 6)
    assert lines(config)[0]["grad_norm"] == pytest.approx(math.hypot(12, 6), rel=1e-6)
    assert float(task.slope.detach()) == pytest.approx(0.05 * 12 * share, rel=1e-5)
    assert float(task.offset.detach()) == pytest.approx(0.05 * 6 * share, rel=1e-5)


def test_weights_decay(config):
    """A gradient of 0, so that only the decay is left: w <- w (1 - lr decay)."""
    task = LineTask(replace(config, steps=2, weight_decay=0.5), Points([(0, 1)] * 4))
    with torch.no_grad():
        task.slope.fill_(1.0)
        task.offset.fill_(1.0)
    fit(task)
    assert float(task.slope.detach()) == pytest.approx((1 - 0.05 * 0.5) * (1 - 0.1 * 0.5))


def by_numpy(points, config, steps):
    """Slope, offset, loss, norm and rate of every step, in double precision, from the formulas."""
    w = b = 0.0
    rows = []
    epochs = math.ceil(steps * config.batch / len(points))
    generators = [np.random.default_rng((config.seed, 0, epoch)) for epoch in range(epochs)]
    stream = np.concatenate([rng.permutation(len(points)) for rng in generators])
    for t in range(steps):
        x, y = np.array([points[i] for i in stream[t * config.batch : (t + 1) * config.batch]]).T
        error = w * x + b - y
        grad = np.array([2 * (error * x).mean(), 2 * error.mean()])
        norm = np.linalg.norm(grad)
        share = min(1.0, config.grad_clip / norm)
        rate = config.lr * (t + 1) / config.warmup
        if t >= config.warmup:
            done = (t - config.warmup) / (config.steps - config.warmup)
            rate = config.lr * (1 + math.cos(math.pi * done)) / 2
        decayed = grad * share + config.weight_decay * np.array([w, b])
        w, b = np.array([w, b]) - rate * decayed
        rows.append((w, b, (error**2).mean(), norm, rate))
    return rows


def test_a_whole_run_is_gradient_descent(config):
    """Order, rates, clipping (in some steps), decay, losses and norms of ten steps."""
    config = replace(config, steps=10, warmup=3, grad_clip=2.0, weight_decay=0.1, seed=5)
    task = LineTask(config, on_a_line(7))
    fit(task)
    wanted = by_numpy(task.points.points, config, 10)
    assert {norm > 2 for *_, norm, _ in wanted} == {True, False}
    for line, (_, _, loss, norm, rate) in zip(lines(config), wanted, strict=True):
        assert line["loss"] == pytest.approx(loss, rel=1e-4)
        assert line["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert line["lr"] == pytest.approx(rate)
    assert float(task.slope.detach()) == pytest.approx(wanted[-1][0], rel=1e-4)
    assert float(task.offset.detach()) == pytest.approx(wanted[-1][1], rel=1e-4)


def test_the_order_of_the_first_epochs(config):
    """Pinned: another order would make old runs other runs."""
    task = LineTask(replace(config, steps=3), on_a_line(6))
    fit(task)
    assert task.seen == [[3, 2, 5, 4], [0, 1, 1, 4], [5, 3, 2, 0]]
    assert len(set(chain.from_iterable(task.draws))) == 12  # a stream for each sample


def test_micro_batches_add_up_to_the_batch(config):
    whole, parts = LineTask(config, on_a_line(5)), None
    fit(whole)
    first = lines(config)
    config = replace(config, out=config.out + "_parts", grad_accum_steps=4)
    parts = LineTask(config, on_a_line(5))
    fit(parts)
    assert [len(seen) for seen in parts.seen] == [1] * 24
    for a, b in zip(first, lines(config), strict=True):
        for name in ("loss", "grad_norm", "mean_x"):
            assert a[name] == pytest.approx(b[name], rel=1e-5)
    assert float(whole.slope.detach()) == pytest.approx(float(parts.slope.detach()), rel=1e-5)
    with pytest.raises(TTDError, match="--grad-accum-steps 4: it compares all points"):
        Trainer(ContrastTask(replace(config, out=config.out + "2"), on_a_line(5)))


def test_a_resumed_run_is_the_same_run(config):
    """Parameters, EMA, order, log and counts: stopped after 3 steps, in the middle of an epoch."""
    whole = LineTask(config, on_a_line(7))
    fit(whole)
    parts = replace(config, out=config.out + "_parts")
    asked = iter([False, False, True])
    outcome = fit(LineTask(parts, on_a_line(7)), should_stop=lambda: next(asked))
    assert (outcome.step, outcome.stopped, outcome.file.name) == (3, True, "last.safetensors")
    with (parts.folder / "train_log.jsonl").open("a") as log:  # what a killed run logged later
        log.write('{"step": 4, "loss": 1}\n{"step": 5')
    again = LineTask(parts, on_a_line(7))
    outcome = fit(again)
    assert (outcome.step, outcome.stopped, outcome.file.name) == (6, False, "model.safetensors")
    assert again.ema == whole.ema and torch.equal(again.slope, whole.slope)
    assert again.seen == whole.seen[3:] and again.draws == whole.draws[3:]
    timeless = [without_rates(config), without_rates(parts)]
    assert timeless[0] == timeless[1] and [line["step"] for line in timeless[0]] == [*range(1, 7)]
    assert (config.folder / "model.safetensors").read_bytes() == outcome.file.read_bytes()


def test_timed_steps_leave_no_trace(config):
    plain = LineTask(config, on_a_line(7))
    fit(plain)
    config = replace(config, out=config.out + "_timed")
    task = LineTask(config, on_a_line(7))
    with closing(Trainer(task)) as trainer:
        assert len(trainer.timed_steps(3, 60)) == 3
        assert trainer.step == 0 and task.ema == 0 and not task.slope.detach().any()
        trainer.run()
    assert task.ema == plain.ema and torch.equal(task.slope, plain.slope)
    with closing(Trainer(LineTask(config, on_a_line(7)))) as trainer:
        assert trainer.timed_steps(3, 60) == []  # nothing is left to do


def test_a_thawed_parameter_joins_with_its_own_rate(config):
    """The offset stands still for three steps; the slope's descent goes on by itself."""
    config = replace(config, schedule="constant", warmup=0)
    task = PhasedTask(config, Points([(1, 1)] * 4))
    fit(task)
    w = b = 0.0
    for step in range(6):
        gradient = 2 * (w + b - 1)
        w -= 0.1 * gradient
        b -= 0.05 * gradient * (step >= 3)
    assert float(task.slope.detach()) == pytest.approx(w, rel=1e-5)
    assert float(task.offset.detach()) == pytest.approx(b, rel=1e-5) and b > 0
    assert [line["lr_offset"] for line in lines(config)] == [0.05] * 6
    assert lines(config)[0]["grad_norm"] == pytest.approx(2.0)  # of the slope alone


def test_the_optimizers_state_survives_a_phase_and_a_resume_across_it(config):
    """AdamW, whose first update of a parameter is lr * sign: the offset's first is at step 3."""

    class Adam(PhasedTask):
        def optimizers(self, groups):
            return [torch.optim.AdamW(groups)]

    config = replace(config, schedule="constant", warmup=0)
    whole = Adam(config, on_a_line(4))
    moves = []
    fit(whole, progress=lambda step, values: moves.append(float(whole.offset.detach())))
    assert moves[:3] == [0.0] * 3 and abs(moves[3]) == pytest.approx(0.05, rel=1e-3)
    assert abs(moves[4] - moves[3]) < 0.0501
    for stop in (2, 3, 4):
        parts = replace(config, out=f"{config.out}_{stop}")
        asked = iter([False] * (stop - 1) + [True])
        fit(Adam(parts, on_a_line(4)), should_stop=lambda asked=asked: next(asked))
        again = Adam(parts, on_a_line(4))
        fit(again)
        assert torch.equal(again.slope, whole.slope) and torch.equal(again.offset, whole.offset)


def test_a_sample_that_cannot_be_read_is_replaced_by_the_next(config):
    points = Points([(0, 0), (1, 1), (2, 2), (3, 3)], broken={1, 2})
    task = LineTask(replace(config, steps=1, batch=4), points)
    outcome = fit(task)
    shuffle = np.random.default_rng((0, 0, 0)).permutation(4)
    assert task.seen == [[3 if i in (1, 2) else i for i in shuffle]]
    listed = (config.folder / "skipped.jsonl").read_text().splitlines()
    ids = {json.loads(line)["id"] for line in listed}
    assert outcome.skipped == 3 and ids == {"p1", "p2", "p99"}
    with pytest.raises(TTDError, match="2 points in a row cannot be read, the last: point . is b"):
        fit(LineTask(replace(config, out=config.out + "2"), Points([(0, 0)] * 2, {0, 1})))


class Scored(LineTask):
    evaluates = True
    table = (0.9, 0.2, 0.5, 0.3)

    def evaluate(self, ranks):
        self.calls = getattr(self, "calls", 0) + 1
        return {"good": self.table[self.calls - 1]}


def test_the_best_step_is_exported_and_chosen(config):
    config = replace(config, eval_every=2)
    outcome = fit(Scored(config, on_a_line(7)))
    assert (outcome.best_step, outcome.best, outcome.before) == (4, {"good": 0.5}, {"good": 0.9})
    best = (config.folder / "best.safetensors").read_bytes()
    assert outcome.file.read_bytes() == best
    assert best != (config.folder / "last.safetensors").read_bytes()
    scored = [line for line in lines(config) if "heldout" in line]
    assert [line["step"] for line in scored] == [0, 2, 4, 6]
    assert scored[2]["heldout"] == {"good": 0.5, "score": 0.5}
    last = replace(config, keep="last", out=config.out + "_last")
    outcome = fit(Scored(last, on_a_line(7)))
    assert outcome.file.read_bytes() == (last.folder / "last.safetensors").read_bytes()


def test_what_the_loss_draws_follows_from_seed_and_step(config):
    class Noisy(LineTask):
        def loss(self, batch, step):
            return super().loss(batch, step)[0] + torch.rand(()), {}

    fit(Noisy(config, on_a_line(7)))
    parts = replace(config, out=config.out + "_parts")
    fit(Noisy(parts, on_a_line(7)), should_stop=lambda: True)
    torch.manual_seed(123)
    fit(Noisy(parts, on_a_line(7)))
    a, b = losses(config), losses(parts)
    assert a == b and len(set(a)) == 6


def test_a_dry_run_writes_nothing_and_refuses_what_the_run_would(config):
    with closing(Trainer(LineTask(config, on_a_line(7)), dry_run=True)) as trainer:
        assert len(trainer.timed_steps(2, 60)) == 2
    assert not config.folder.exists()
    fit(LineTask(config, on_a_line(7)))
    with pytest.raises(TTDError, match="other settings .*lr: 0.1, not 0.2"):
        Trainer(LineTask(replace(config, lr=0.2), on_a_line(7)), dry_run=True)


def test_groups_that_miss_a_parameter_are_refused(config):
    class Partial(LineTask):
        def groups(self, step):
            return [replace(super().groups(step)[0], parameters=("slope",))]

    with pytest.raises(TTDError, match="every parameter once: offset"):
        Trainer(Partial(config, on_a_line(7)))
