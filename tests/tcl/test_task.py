"""TCL on the shared trainer: phases, groups, decay, captions, exports, an interrupted run."""

import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from small_pairs import write_set

from core.backbones import load_backbone
from core.data.pairs import open_pairs
from core.errors import TTDError
from core.tcl.config import LossConfig, TCLConfig
from core.tcl.model import starting_point
from core.tcl.task import TCLTask
from core.training.trainer import Trainer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A training set of 12 pairs."""
    return write_set(tmp_path_factory.mktemp("pairs"), 12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path_factory.getbasetemp() / "ttd_cache"))


@pytest.fixture
def config(small_clip, root, tmp_path):
    return TCLConfig(
        arch=f"local-dir:{small_clip}",
        data="cc3m",
        root=str(root),
        steps=6,
        batch=4,
        lr=1e-2,
        lr_floor=0.1,
        warmup=2,
        thaw_at=3,
        weight_decay=0.05,
        out=str(tmp_path / "run"),
        checkpoint_every=2,
        log_every=1,
        workers=1,
        device="cpu",
        stages=1,
    )


def make(config):
    """The task of a run."""
    pairs = open_pairs(config.data, config.root, config.pruned, limit=config.limit)
    return TCLTask(config, starting_point(config, "cpu"), pairs)


def fit(config, stop_after=None):
    """One run from the start or the last checkpoint; the trainer."""
    task, steps = make(config), []
    with closing(Trainer(task)) as trainer:
        trainer.run(
            lambda step, values: steps.append(step),
            lambda: stop_after is not None and len(steps) + 1 >= stop_after,
        )
    return trainer


def values(task):
    """Copies of the trained parameters."""
    return {name: p.detach().clone() for name, p in task.parameters().items()}


def changed(before, after):
    """Names of parameters that are not what they were."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_phases_change_exactly_their_parameters(config):
    # Without weight decay, what has no gradient stands still.
    config = replace(config, weight_decay=0.0)
    task = make(config)
    frozen = [*task.backbone.visual.parameters(), *task.backbone.text.parameters()]
    towers = [p.detach().clone() for p in frozen]
    start = values(task)
    seen = {}
    with closing(Trainer(task)) as trainer:
        trainer.run(lambda step, _: seen.update({step: values(task)}))
    block = {name for name in start if "backbone.transformer.resblocks.2." in name}
    dead = {name for name in block if "q_proj" in name or "k_proj" in name}
    assert len(block) == 16 and len(dead) == 4
    assert changed(start, seen[3]) == set(start) - block  # steps 0, 1, 2
    assert changed(seen[3], seen[4]) == set(start) - dead
    assert all(torch.equal(a, b) for a, b in zip(towers, frozen, strict=True))


def test_decay_acts_on_queries_and_keys_although_nothing_flows_through_them(config):
    config = replace(config, thaw_at=0, steps=1, warmup=0, lr_floor=1.0)
    task = make(config)
    before = values(task)
    with closing(Trainer(task)) as trainer:
        trainer.run()
    for name, value in values(task).items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            assert torch.allclose(value, before[name] * (1 - 1e-2 * 0.05), rtol=1e-6), name
        if name.endswith(("q_proj.bias", "k_proj.bias")):
            assert torch.equal(value, before[name])


def test_groups_hold_every_parameter_once_with_rates_of_the_step(config):
    task = make(config)
    for step, frozen in ((0, True), (2, True), (3, False), (5, False)):
        groups = {group.name: group for group in task.groups(step)}
        assert set(groups) == {"decoder", "decoder_no_decay", "block", "block_no_decay"}
        names = [name for group in groups.values() for name in group.parameters]
        assert sorted(names) == sorted(task.parameters())
        assert groups["block"].frozen == groups["block_no_decay"].frozen == frozen
        assert not groups["decoder"].frozen
        assert groups["decoder"].weight_decay == 0.05
        assert groups["decoder_no_decay"].weight_decay == 0
    assert {g.lr for g in task.groups(2)} == {1e-2} and {g.lr for g in task.groups(5)} == {1e-3}
    assert "masker.sim2mask.w" in groups["decoder"].parameters
    kept = {g.name: g for g in make(replace(config, decay_scalars=False)).groups(0)}
    assert "masker.sim2mask.w" in kept["decoder_no_decay"].parameters


def test_a_step_is_adamws_by_hand(config):
    """The first update of AdamW: lr g / (|g| + eps), after the decay; g clipped to norm 5."""
    config = replace(config, thaw_at=100, steps=1, warmup=0, lr_floor=1.0, grad_clip=1e-3)
    task = make(config)
    before = values(task)
    with closing(Trainer(task)) as trainer:
        trainer.run()
        gradients = {n: p.grad.clone() for n, p in task.parameters().items() if p.grad is not None}
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
    for name in ("masker.sim2mask.w", "masker.image_encoder.decoder.image_proj.ln.bias"):
        g, decay = gradients[name], 0.05 if name.endswith("w") else 0.0
        want = before[name] * (1 - 1e-2 * decay) - 1e-2 * g / (g.abs() + 1e-6)
        assert torch.allclose(values(task)[name], want, rtol=1e-5), name


def test_the_log_has_the_weighted_terms(config):
    trainer = fit(replace(config, steps=2))
    lines = (trainer.config.folder / "train_log.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    terms = [last[name] for name in LossConfig().weights]
    assert last["loss"] == pytest.approx(sum(terms), rel=1e-5)
    assert 0 < last["mask_area"] < 1 and last["mask_std"] > 0
    assert last["lr"] == pytest.approx(1e-2 * (1e-4 + (1 - 1e-4) / 2))


def test_an_interrupted_run_ends_with_the_same_bytes(config, tmp_path):
    whole = fit(config)
    broken = replace(config, out=str(tmp_path / "broken"))
    fit(broken, stop_after=2)
    fit(broken, stop_after=2)
    trainer = fit(broken)
    for name in ("TCL.pth", "last.pth", "train_log.jsonl"):
        one, other = (t.config.folder / name for t in (whole, trainer))
        if name.endswith(".jsonl"):
            assert _without_speed(one) == _without_speed(other)
        else:
            assert one.read_bytes() == other.read_bytes(), name


def _without_speed(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "pairs_per_s"} for line in lines]


def test_captions_kept_in_memory_change_nothing(config, tmp_path):
    kept = fit(replace(config, batch=6, steps=3))
    assert kept.task.describe()[0].endswith("once, before the first step")
    each = fit(replace(config, batch=6, steps=3, cached_captions=0, out=str(tmp_path / "each")))
    assert each.task.describe()[0].endswith("in every step")
    for name, value in values(kept.task).items():
        assert torch.allclose(value, values(each.task)[name], rtol=1e-3, atol=1e-5), name


def test_the_result_is_a_tcl_and_a_starting_point(config, tmp_path):
    trainer = fit(replace(config, steps=2))
    path = trainer.config.folder / "TCL.pth"
    loaded = load_backbone("TCL", weights=path)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(
            loaded.encode_pixels(images), trainer.task.backbone.encode_pixels(images)
        )
    again = make(replace(config, resume_from=str(path), out=str(tmp_path / "again")))
    trained = values(trainer.task)
    assert not changed(trained, values(again))


def test_accumulation_is_refused(config):
    with pytest.raises(TTDError, match="compares all pairs of a batch"):
        Trainer(make(replace(config, grad_accum_steps=2)))


def test_collapsed_masks_stop_the_run(config):
    config = replace(config, steps=60, limit=4, batch=4)
    task = make(config)
    with torch.no_grad():
        task.parameters()["masker.sim2mask.b"].fill_(-60.0)
    with closing(Trainer(task)) as trainer, pytest.raises(TTDError, match="off everywhere"):
        trainer.run()
