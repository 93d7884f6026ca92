"""Both stages of the tiny CLIP on the shared trainer: settings, rates, resuming, files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from line_task import fit, lines
from paths import ROOT
from safetensors.torch import load_file

from core.backbones import load_backbone
from core.errors import TTDError
from core.tiny_clip.config import load_config
from core.tiny_clip.task import PretrainTask, schedule
from core.tiny_clip.text_task import TextTask
from core.training.trainer import Trainer
from core.utils.config import read_recipe

needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="training the tiny model needs torch >= 2.9"
)


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_clip_text"])
def test_the_shipped_recipes_are_the_defaults(name):
    values = read_recipe(ROOT / f"configs/{name}.yaml")
    own = {key: values[key] for key in ("world", "model", "out") if key in values}
    assert load_config(values) == load_config(own)


def test_old_names_of_settings_are_accepted():
    told = []
    config = load_config({"world": "w", "bf16": False, "checkpoint_minutes": 4.0}, "x", told.append)
    assert config.dtype == "float32" and len(told) == 2


def test_config_errors_name_the_key():
    with pytest.raises(TTDError, match="unknown setting stepz"):
        load_config({"world": "w", "stepz": 3}, "tiny.yaml")
    with pytest.raises(TTDError, match="tiny.yaml: lr must be float"):
        load_config({"world": "w", "lr": "fast"}, "tiny.yaml")
    with pytest.raises(TTDError, match="setting world is missing"):
        load_config({"batch": 3}, "tiny.yaml")


def test_the_schedule_of_a_longer_run_begins_alike():
    short = load_config({"world": "w", "steps": 3000})
    longer = replace(short, steps=4000)
    flat = 3000 - short.decay_steps
    assert [schedule(s, short) for s in range(flat)] == [schedule(s, longer) for s in range(flat)]
    assert schedule(2999, short) == pytest.approx(1 / short.decay_steps)
    assert schedule(short.warmup, short) == 1.0 and schedule(0, short) == 1 / short.warmup


@needs_muon
def test_a_run_that_was_cut_off_ends_with_the_same_weights(config):
    """Six steps at once, and four then two, through the switch from small to full images."""
    fit(PretrainTask(config, torch.device("cpu")))
    parts = replace(config, out=config.out + "_parts")
    asked = iter([False] * 3 + [True])
    fit(PretrainTask(parts, torch.device("cpu")), should_stop=lambda: next(asked))
    fit(PretrainTask(parts, torch.device("cpu")))
    a, b = (load_file(c.folder / "open_clip_model.safetensors") for c in (config, parts))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(TTDError, match="other settings"):
        Trainer(PretrainTask(replace(parts, lr=0.5), torch.device("cpu")))
    rates = [(line["lr"], line["lr_matrices"]) for line in lines(config)]
    shares = [0.5, 1, 1, 1, 1, 0.5]
    assert rates == [pytest.approx((share * 1e-3, share * 0.02)) for share in shares]


@needs_muon
def test_the_temperature_stays_within_its_bounds(config):
    task = PretrainTask(replace(config, max_logit_scale=20.0), torch.device("cpu"))
    with torch.no_grad():
        task.model.logit_scale.fill_(5.0)
    task.after_step(0)
    assert float(task.model.logit_scale.exp().detach()) == pytest.approx(20.0)


@needs_muon
def test_what_is_trained_how(config):
    task = PretrainTask(config, torch.device("cpu"))
    tables, gains, matrices = task.groups(1)
    assert "token_embedding.weight" in tables.parameters and tables.weight_decay == 0.1
    assert "logit_scale" in gains.parameters and gains.weight_decay == 0
    assert (
        all(".resblocks." in name for name in matrices.parameters) and matrices.weight_decay == 0.01
    )
    assert {name.rsplit(".", 1)[1] for name in matrices.parameters} == {"weight", "in_proj_weight"}
    with pytest.raises(TTDError, match="InfoNCE compares all pairs"):
        Trainer(PretrainTask(replace(config, grad_accum_steps=2), torch.device("cpu")))


@needs_muon
def test_the_second_stage_moves_the_text_tower_alone(config, world, tmp_path):
    fit(PretrainTask(config, torch.device("cpu")))
    out = str(tmp_path / "text")
    values = {"model": config.out, "world": str(world), "out": out, "pairs": 30, "batch": 8}
    second = load_config({**values, "steps": 5, "warmup": 1, "lr": 1e-2, "log_every": 1})
    outcome = fit(TextTask(second, torch.device("cpu")))
    shares = [1, 1, 3 / 3.5, 2 / 3.5, 1 / 3.5]
    assert [line["lr"] for line in lines(second)] == pytest.approx([1e-2 * s for s in shares])
    before, after = (load_file(Path(f) / "open_clip_model.safetensors") for f in (config.out, out))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and "token_embedding.weight" in moved
    assert not any(name.startswith("visual.") for name in moved) and "logit_scale" not in moved
    assert outcome.file == tmp_path / "text" / "open_clip_model.safetensors"
    load_backbone(f"local-dir:{out}")  # complete: weights, configuration, vocabulary
    again = TextTask(replace(second, out=out + "2"), torch.device("cpu"))
    asked = iter([False, True])
    fit(again, should_stop=lambda: next(asked))
    fit(TextTask(replace(second, out=out + "2"), torch.device("cpu")))
    resumed = load_file(Path(out + "2") / "open_clip_model.safetensors")
    assert all(torch.equal(after[name], resumed[name]) for name in after)
    with pytest.raises(TTDError, match="other settings .*base: "):
        fit(PretrainTask(replace(config, out=config.out + "3", seed=1), torch.device("cpu")))
        Trainer(TextTask(replace(second, model=config.out + "3"), torch.device("cpu")))


@needs_muon
def test_a_class_token_model_starts_from_another_and_keeps_its_texts(config):
    """The image tower alone moves, from the first model's weights; the class token pools."""
    fit(PretrainTask(config, torch.device("cpu")))
    changes = {"pool": "tok", "head": "maskclip", "init": config.out, "encoders": "image"}
    second = replace(config, out=config.out + "_cls", steps=3, **changes)
    task = PretrainTask(second, torch.device("cpu"))
    assert all(name.startswith("visual.") for name in task.parameters())
    fit(task)
    before, after = (load_file(c.folder / "open_clip_model.safetensors") for c in (config, second))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("visual.") for name in moved)
    assert "visual.class_embedding" in moved
    assert load_backbone(f"local-dir:{second.out}").head == "maskclip"
    with pytest.raises(TTDError, match="other sizes or another vocabulary"):
        PretrainTask(replace(second, width=128), torch.device("cpu"))
    with pytest.raises(TTDError, match="pool 'max'"):
        replace(config, pool="max")
