"""Learning rates of known steps."""

import pytest

from core.training.config import RunConfig
from core.training.schedules import cosine, learning_rate, linear_warmup, step_decay


def test_warm_up_and_cosine_by_hand():
    config = RunConfig(lr=1.0, warmup=4, steps=12)
    rates = [learning_rate(step, config) for step in range(12)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    # 8 steps of half a cosine: (1 + cos(pi k / 8)) / 2
    assert rates[5] == pytest.approx(0.9619398) and rates[6] == pytest.approx(0.8535534)
    assert rates[8] == pytest.approx(0.5) and rates[11] == pytest.approx(0.0380602)


def test_a_floor_is_reached_and_never_passed():
    config = RunConfig(lr=2.0, warmup=0, steps=10, lr_floor=0.25)
    rates = [learning_rate(step, config) for step in range(11)]
    assert rates[0] == 2.0 and rates[5] == pytest.approx(1.25) and rates[10] == 0.5


def test_steps_and_constant():
    config = RunConfig(lr=1.0, warmup=1, steps=9, schedule="step", lr_drop_every=3, lr_drop=0.1)
    wanted = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    assert [learning_rate(step, config) for step in range(9)] == pytest.approx(wanted)
    constant = RunConfig(lr=0.3, warmup=0, steps=3, schedule="constant")
    assert [learning_rate(step, constant) for step in range(3)] == [0.3] * 3
    assert step_decay(59, 60, 0.1) == 1 and step_decay(120, 60, 0.1) == pytest.approx(0.01)


def test_tcls_recipe():
    """The rates that LinearLR, CosineAnnealingLR and SequentialLR give in TCL's recipe."""
    peak, low, warmup, steps = 7.5e-5, 1e-5, 15000, 50000

    def rate(step):
        if step < warmup:
            return peak * linear_warmup(step, warmup, 1e-4)
        return peak * cosine(step - warmup, steps - warmup, low / peak)

    table = {0: 7.5e-9, 7500: 3.75e-5, 15000: 7.5e-5, 30000: 4.973e-5, 40000: 2.224e-5, 50000: 1e-5}
    for step, wanted in table.items():
        assert rate(step) == pytest.approx(wanted, rel=2e-4)


def test_against_torchs_schedulers():
    import torch
    from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

    def rates(make, steps):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler, found = make(optimizer), []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    wanted = rates(lambda o: CosineAnnealingLR(o, 20, eta_min=0.1), 20)
    assert [cosine(step, 20, 0.1) for step in range(20)] == pytest.approx(wanted)
    wanted = rates(lambda o: StepLR(o, 7, gamma=0.5), 20)
    assert [step_decay(step, 7, 0.5) for step in range(20)] == pytest.approx(wanted)
