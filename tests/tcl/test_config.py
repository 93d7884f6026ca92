"""Settings of a TCL run: the learning rate of every phase, recipes, refusals."""

import pytest
from paths import ROOT

from core.errors import TTDError
from core.tcl.config import LossConfig, TCLConfig, load_config, tcl_rate
from core.utils.config import read_recipe


def recipe(name, **changes):
    """A shipped recipe."""
    return load_config({**read_recipe(ROOT / "configs" / name), **changes}, name)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 7.5e-9),
        (7500, 7.5e-5 * (1e-4 + (1 - 1e-4) / 2)),
        (15000, 7.5e-5),
        (30000, 4.973e-5),
        (40000, 2.224e-5),
        (50000, 1e-5),
    ],
)
def test_published_learning_rate(step, rate):
    assert tcl_rate(step, recipe("tcl.yaml")) == pytest.approx(rate, rel=2e-4)


def test_learning_rate_is_that_of_torchs_schedulers():
    """LinearLR, then CosineAnnealingLR, stepped after every update."""
    import torch
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

    config = TCLConfig(steps=41, warmup=12, lr=0.3, lr_floor=0.2, thaw_at=5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    parts = [
        LinearLR(optimizer, start_factor=1e-4, total_iters=12),
        CosineAnnealingLR(optimizer, T_max=28, eta_min=0.06),
    ]
    schedule = SequentialLR(optimizer, parts, milestones=[12])
    for step in range(41):
        assert tcl_rate(step, config) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        schedule.step()


def test_published_recipe():
    config = recipe("tcl.yaml")
    assert (config.batch, config.steps, config.thaw_at) == (1024, 50001, 30000)
    assert config.lr == pytest.approx(3e-4 * 1024 / 4096)
    assert config.lr * config.lr_floor == pytest.approx(4e-5 * 1024 / 4096, rel=1e-6)
    assert (config.weight_decay, config.grad_clip, config.dtype) == (0.05, 5.0, "float16")
    assert config.loss == LossConfig() and config.augment.crop == (0.08, 1.0)
    weights = (0.4, 0.4, 0.1, 0.1, 1.0, 1.0)
    assert tuple(LossConfig().weights.values()) == weights


def test_recipe_of_one_machine_has_half_the_rates():
    whole, half = recipe("tcl.yaml"), recipe("tcl_8gpu.yaml")
    assert half.batch == 512 and half.lr == pytest.approx(whole.lr / 2)
    assert half.lr_floor == whole.lr_floor and half.steps == whole.steps


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"schedule": "step", "lr_drop_every": 3}, "cosine"),
        ({"thaw_at": -1}, "thaw_at"),
        ({"loss.tau": 0.0}, "tau"),
        ({"loss.area": 1.5}, "area"),
        ({"loss.tclf_weight": -0.1}, "tclf_loss"),
        ({"loss.chunk": -1}, "chunk"),
        ({"augment.crop": [0.5, 0.2]}, "crop"),
        ({"augment.erase": 2.0}, "erase"),
        ({"augment.policy": "augmix"}, "policy"),
        ({"evaluation.limit": 0}, "limit"),
        ({"stages": 0}, "stages"),
        ({"losses": 1}, "unknown setting losses"),
    ],
)
def test_what_cannot_be_is_refused(values, said):
    with pytest.raises(TTDError, match=said):
        load_config(values)
