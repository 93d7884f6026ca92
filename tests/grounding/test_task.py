"""Training: it learns, resumes to the byte, and counts what it says."""

import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_grounding import write_backbone, write_phrases

from core.backbones import load_backbone
from core.data.grounding import read_phrases
from core.errors import TTDError
from core.grounding.features import whitening
from core.grounding.run_config import GroundingConfig, learning_rate
from core.grounding.task import GroundingTask
from core.grounding.weights.checkpoint import load_model, read_info
from core.training.trainer import Trainer


@pytest.fixture(scope="module")
def arch(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def phrases(tmp_path_factory):
    return read_phrases(write_phrases(tmp_path_factory.mktemp("phrases")))


def config(arch, out, **changes):
    settings = {
        "arch": arch, "data": "list", "out": str(out), "device": "cpu", "layers": 2, "hidden": 64,
        "heads": 4, "feedforward": 64, "steps": 4, "batch": 8, "lr": 1e-3, "warmup": 0,
        "eval_every": 4, "checkpoint_every": 2, "log_every": 1, "stall_percent": 0.0,
    }  # fmt: skip
    return GroundingConfig(**{**settings, **changes})


def run(config, phrases, val=None, stop_after=None):
    backbone = load_backbone(config.arch, device="cpu")
    task = GroundingTask(config, backbone, [phrases], [val] if val else [])
    with closing(Trainer(task)) as trainer:
        outcome = trainer.run(should_stop=lambda: trainer.step + 1 == stop_after)
    return task, outcome


@pytest.mark.slow
def test_it_overfits_64_samples(arch, phrases, tmp_path):
    """The guard against a model that cannot learn; with features kept on disk, as a fast run."""
    assert len(phrases) == 64
    settings = {
        "steps": 300, "batch": 64, "lr": 1e-3, "warmup": 20, "dropout": 0.0, "jitter": False,
        "eval_every": 300, "checkpoint_every": 300, "train_visual_pos": False, "hidden": 128,
        "feedforward": 128,
        "cache": str(tmp_path / "cache"),
    }  # fmt: skip
    task, outcome = run(config(arch, tmp_path / "run", **settings), phrases, phrases)
    assert outcome.before["acc@0.5"] < 0.3
    assert outcome.last["acc@0.5"] > 0.9 and outcome.last["miou"] > 0.7
    model = load_model(outcome.file, device="cpu")
    again = GroundingTask.evaluate(_with(task, model), _alone())
    assert again["acc@0.5"] == outcome.last["acc@0.5"]


def test_kept_features_train_the_same(arch, phrases, tmp_path):
    """Up to float16, and from the second run on without the tower."""
    settings = {"dropout": 0.0, "jitter": False, "train_visual_pos": False, "lr": 1e-4}
    plain, _ = run(config(arch, tmp_path / "plain", **settings), phrases)
    cached = config(arch, tmp_path / "cached", **settings, cache=str(tmp_path))
    kept, _ = run(cached, phrases)
    assert len(list(tmp_path.glob("features_*.npy"))) == 1
    for name, value in plain.parameters().items():
        assert (value - kept.parameters()[name]).abs().max() < 2e-3, name
    with pytest.raises(TTDError, match="cache"):
        config(arch, tmp_path, cache="x")
    damaged = next(tmp_path.glob("features_*.npy"))
    whole = damaged.read_bytes()
    for content in (whole[:-10], whole[:40], b"", b"\x93NUMPY\x01\x00\xff\xff{" + bytes(99)):
        damaged.write_bytes(content)
        GroundingTask(cached, load_backbone(arch, device="cpu"), [phrases])
        assert damaged.read_bytes() == whole and len(list(tmp_path.glob("features_*.npy"))) == 1


def _with(task, model):
    task.model = model
    return task


def _alone():
    from core.training.distributed import Ranks

    return Ranks()


def test_a_stopped_run_ends_with_the_same_bytes(arch, phrases, tmp_path):
    aug = {"crop": True, "scale": True, "translate": True, "blur": True}
    _, whole = run(config(arch, tmp_path / "whole", **aug), phrases)
    _, stopped = run(config(arch, tmp_path / "parts", **aug), phrases, stop_after=2)
    assert stopped.stopped
    _, resumed = run(config(arch, tmp_path / "parts", **aug), phrases)
    assert whole.file.read_bytes() == resumed.file.read_bytes()


def test_what_trains(arch, phrases, tmp_path):
    """Towers stay as they are, but for the position table, and only where that is asked for."""
    before = load_backbone(arch, device="cpu").state_dict()
    for trained in (True, False):
        task, outcome = run(
            config(arch, tmp_path / str(trained), train_visual_pos=trained, dropout=0.0), phrases
        )
        after = task.model.backbone.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == ({"visual.positional_embedding"} if trained else set())
        fresh = GroundingTask(task.config, load_backbone(arch, device="cpu"), [phrases])
        for name, value in fresh.parameters().items():
            assert not torch.equal(value, task.parameters()[name]), name
        assert ("clip.visual.positional_embedding" in task.parameters()) == trained


def test_the_file_says_what_it_is(arch, phrases, tmp_path):
    task, outcome = run(config(arch, tmp_path, prompt="find {pseudo_query}"), phrases)
    info = read_info(outcome.file)
    assert info["arch"] == arch and info["info"]["prompt"] == "find {pseudo_query}"
    state = load_file(outcome.file)
    for name, value in task.model.own_state().items():
        assert torch.equal(state[name], value)
    model = load_model(outcome.file, device="cpu")
    images, ignored = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool)
    tokens = model.backbone.tokenize(["red", "a green square"])
    assert torch.equal(model(images, ignored, tokens), task.model.eval()(images, ignored, tokens))


def test_another_backbone_is_refused(arch, phrases, tmp_path):
    _, outcome = run(config(arch, tmp_path), phrases)
    with pytest.raises(TTDError, match="other weights"):
        load_model(outcome.file, "tiny", "cpu")


def test_init_goes_on_from_a_model(arch, phrases, tmp_path):
    first, outcome = run(config(arch, tmp_path / "first"), phrases)
    backbone = load_backbone(arch, device="cpu")
    second = GroundingTask(
        config(arch, tmp_path / "second", init=str(outcome.file)), backbone, [phrases]
    )
    for name, value in second.parameters().items():
        assert torch.equal(value, first.parameters()[name]), name


def test_maps_are_measured(arch, phrases, tmp_path):
    """Mapped features have mean 0 and no correlation; a model that starts from another has its."""
    from core.data.grounding_view import view
    from core.data.images import read_image

    backbone = load_backbone(arch, device="cpu")
    settings = config(arch, tmp_path / "a", whiten=8, input_positions=True, train_visual_pos=False)
    task, outcome = run(settings, phrases)
    images = list(dict.fromkeys(phrase.image for phrase in phrases.phrases))
    pixels = torch.stack([view(read_image(image), backbone.image_size).image for image in images])
    with torch.no_grad():
        states = torch.cat(backbone.visual.hidden_states(pixels, task.model.config.blocks), -1)
        mapped = task.model.visual_map(states).flatten(0, 1)
    assert mapped.mean(0).abs().max() < 1e-3
    covariance = mapped.T @ mapped / len(mapped)
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 1e-2
    assert covariance.diag()[0] == pytest.approx(1, abs=1e-2)
    assert not any("_map" in name for name in task.parameters())
    loaded = load_model(outcome.file, device="cpu")
    assert loaded.config.whiten == 8 and loaded.config.input_positions
    after = GroundingTask(
        config(arch, tmp_path / "b", init=str(outcome.file)), backbone, [phrases]
    ).model
    assert after.config == replace(loaded.config, dropout=after.config.dropout)
    for name, value in loaded.own_state().items():
        assert torch.equal(value, after.own_state()[name]), name


def test_whitening_is_the_known_one():
    """Against numpy's covariance; components of noise are not blown up."""
    draw = np.random.default_rng(0)
    scales = np.array([50.0, 9.0, 3.0, 1e-9])
    samples = draw.normal(size=(5000, 4)) * scales + [100, -3, 0, 7]
    weight, bias = whitening(torch.from_numpy(samples), 4)
    mapped = samples @ weight.numpy().T + bias.numpy()
    assert np.allclose(mapped.mean(0), 0, atol=1e-9)
    assert np.allclose(np.cov(mapped.T, bias=True)[:3, :3], np.eye(3), atol=1e-6)
    assert mapped[:, 3].std() < 1e-6
    assert whitening(torch.from_numpy(samples), 2)[0].shape == (2, 4)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch >= 2.9")
def test_muon_has_the_matrices(arch, phrases, tmp_path):
    """Every parameter is in one of the two groups; it learns, and resumes to the byte."""
    settings = {"optimizer": "muon", "steps": 6, "eval_every": 6, "lr": 3e-3}
    task, whole = run(config(arch, tmp_path / "whole", **settings), phrases)
    matrices, rest = task.groups(0)
    assert {len(task.parameters()[name].shape) for name in matrices.parameters} == {2}
    assert not any("bias" in name or "norm" in name for name in matrices.parameters)
    assert {"reg_token.weight", "vl_pos_embed.weight", "bbox_embed.layers.2.weight"} < set(
        rest.parameters
    )
    assert "vl_transformer.encoder.layers.1.self_attn.in_proj_weight" in matrices.parameters
    run(config(arch, tmp_path / "parts", **settings), phrases, stop_after=2)
    _, resumed = run(config(arch, tmp_path / "parts", **settings), phrases)
    assert whole.file.read_bytes() == resumed.file.read_bytes()


def test_the_logged_loss_is_the_loss(arch, phrases, tmp_path):
    """The first step by hand: eval mode equals training without dropout."""
    import json

    from core.grounding.losses import box_losses
    from core.training.batches import BatchSharding, batches

    settings = config(arch, tmp_path, dropout=0.0)
    run(settings, phrases)
    logged = json.loads((tmp_path / "train_log.jsonl").read_text().splitlines()[0])
    task = GroundingTask(settings, load_backbone(arch, device="cpu"), [phrases])
    batch = next(batches(task, BatchSharding(8), 0, 1)).batch
    tokens = task.model.backbone.tokenize(batch.texts)
    boxes = task.model.eval()(batch.images, batch.ignored, tokens)
    want = box_losses(boxes, batch.boxes)
    assert logged["loss"] == pytest.approx(want["loss"].item(), abs=1e-5)
    assert logged["l1"] + logged["giou"] == pytest.approx(logged["loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        ("cosine", lambda e: 0.5 * (1 + math.cos(math.pi * e / 10))),
        ("poly", lambda e: (1 - e / 10) ** 0.9),
        ("halfdecay", lambda e: 0.5**e),
        ("exponential", lambda e: 0.9**e),
        ("step", lambda e: 0.1 ** (e // 4)),
        ("constant", lambda e: 1.0),
    ],
)
def test_rates_change_once_an_epoch(schedule, want):
    """10 epochs of 7 steps, as the published schedules have them."""
    settings = GroundingConfig(
        data="x", steps=70, epoch_steps=7, lr=2.0, warmup=0, schedule=schedule, lr_drop_every=28
    )
    for step in range(70):
        assert learning_rate(step, settings) == pytest.approx(2.0 * want(step // 7)), step


def test_warmup_is_linear():
    settings = GroundingConfig(data="x", steps=70, lr=1.0, warmup=4, schedule="constant")
    assert [learning_rate(step, settings) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "lion"},
        {"whiten": -1},
        {"whiten": 1000},
        {"sup": "none"},
        {"prompt": "no place"},
        {"epochs": 0.0},
        {"schedule": "linear"},
        {"data": None, "dataset": ("coco",)},
        {"dropout": 2.0},
        {"blocks": (0, 9)},
    ],
)
def test_settings_that_cannot_be(arch, phrases, tmp_path, change):
    with pytest.raises(TTDError):
        settings = config(arch, tmp_path, **change)
        GroundingTask(settings, load_backbone(arch, device="cpu"), [phrases])
