"""TTD as a training task: what it learns, what it leaves, how it stops and resumes."""

import errno
import json
import math
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from runs import lines
from small_pairs import write_set
from ttd_runs import fit, task_of

from core.backbones import load_backbone
from core.backbones.lora.adapter import read_adapter
from core.data.pairs import open_pairs
from core.errors import TTDError, UnreadableError
from core.training.distributed import Ranks
from core.training.sources import PairSource
from core.training.task import Step
from core.training.trainer import Trainer
from core.ttd.config import DistillConfig, LoraConfig
from core.ttd.distiller import Distiller
from core.ttd.task import GUARDS, TTDTask, score

STEP = Step(0, Ranks(), torch.device("cpu"))


def guards(*values):
    return dict(zip(GUARDS, values, strict=True))


def test_training_lowers_its_loss_and_leaves_the_base_alone(config):
    """Against a fixed target (frozen teacher), over the same pairs again and again."""
    config = replace(config, steps=30, lr=5e-3, batch=12, distill=DistillConfig(teacher="frozen"))
    plain = load_backbone(config.arch, device="cpu").state_dict()
    outcome, task = fit(config)
    losses = [line["loss"] for line in lines(config)]
    assert losses[-1] < 0.8 * losses[0]
    after = {
        name.replace(".base_layer", ""): value for name, value in task.backbone.state_dict().items()
    }
    assert all(torch.equal(after[name], value) for name, value in plain.items())
    assert {
        "distill",
        "tag",
        "ranking",
        "anchor",
        "map_std",
        "map_correlation",
        "selected",
        "grad_norm",
        "lr",
        "pairs_per_s",
    } <= lines(config)[-1].keys()
    adapted = load_backbone(config.arch, lora=outcome.file, device="cpu")
    with torch.no_grad():
        assert torch.allclose(
            adapted.encode_text(["a dog"]), task.backbone.encode_text(["a dog"]), atol=1e-6
        )
        assert not torch.allclose(
            adapted.encode_text(["a dog"]),
            load_backbone(config.arch, device="cpu").encode_text(["a dog"]),
            atol=1e-3,
        )


def test_the_adapter_says_what_made_it(config):
    outcome, task = fit(replace(config, steps=2, peft=True))
    state, info = read_adapter(outcome.file)
    assert outcome.file.name == "small.safetensors" and info.arch == config.arch
    assert (info.rank, info.alpha, info.head) == (2, 2.0, task.backbone.head)
    assert info.base_checksum == load_backbone(config.arch, device="cpu").checksum
    assert info.recipe["lr"] == config.lr and info.recipe["step"] == 2
    folder, _ = read_adapter(outcome.file.with_suffix(""))
    assert state.keys() == folder.keys() and all(
        torch.equal(state[name], folder[name]) for name in state
    )


def test_the_best_by_all_three_scores_is_kept(config):
    """A single high score does not win; the baseline before training is no candidate."""
    table = iter(
        [
            guards(0.9, 0.9, 0.9),
            guards(0.5, 0.5, 0.5),
            guards(0.99, 0.99, 0.1),
            guards(0.4, 0.5, 0.6),
        ]
    )
    outcome, _ = fit(config, evaluate=lambda backbone: next(table))
    assert (outcome.best_step, outcome.best) == (2, guards(0.5, 0.5, 0.5))
    assert outcome.before == guards(0.9, 0.9, 0.9) and outcome.last == guards(0.4, 0.5, 0.6)
    assert outcome.file.read_bytes() == (config.folder / "best.safetensors").read_bytes()
    assert outcome.file.read_bytes() != (config.folder / "last.safetensors").read_bytes()
    assert [line["step"] for line in lines(config) if "heldout" in line] == [0, 2, 4, 6]
    table = iter(
        [guards(0.9, 0.9, 0.9), guards(0.5, 0.5, 0.5), guards(0.2, 0.2, 0.2), guards(0.1, 0.1, 0.1)]
    )
    outcome, _ = fit(
        replace(config, keep="last"), evaluate=lambda backbone: next(table), overwrite=True
    )
    assert outcome.file.read_bytes() == (config.folder / "last.safetensors").read_bytes()


def test_the_score_is_the_harmonic_mean():
    assert score(guards(0.5, 0.5, 0.5)) == pytest.approx(0.5)
    assert score(guards(1.0, 0.5, 0.25)) == pytest.approx(3 / 7)
    assert score(guards(1.0, 0.0, 1.0)) < 1e-6
    assert (
        score(guards(0.5, math.nan, 0.5)) == pytest.approx(0.5)
        and score(guards(*[math.nan] * 3)) == 0
    )


@pytest.mark.parametrize("selection", ["caption", "calibrated"])
def test_stopped_and_gone_on_with_is_the_same_to_the_byte(config, selection):
    """The EMA, the optimizer, the collapse monitor and the log all go on."""
    ema = DistillConfig(distance="bce", teacher="ema", ema_decay=0.8, selection=selection)
    whole = replace(config, distill=ema)
    fit(whole)
    parts = replace(whole, out=f"{config.out}_parts", workers=3)
    steps = iter([False, False, True, True, False, False, False])
    outcome, task = fit(parts, should_stop=lambda: next(steps))
    assert outcome.stopped and outcome.step == 3 and outcome.file.name == "last.safetensors"
    assert fit(parts, should_stop=lambda: next(steps))[0].step == 4
    outcome, task = fit(parts)
    assert not outcome.stopped
    for name in ("small.safetensors", "last.safetensors"):
        assert (whole.folder / name).read_bytes() == (parts.folder / name).read_bytes()
    timeless = [lines(whole), lines(parts)]
    for line in [*timeless[0], *timeless[1]]:
        del line["pairs_per_s"]
    assert timeless[0] == timeless[1]


def test_the_monitor_and_the_ema_are_in_the_checkpoint(config):
    config = replace(config, distill=DistillConfig(teacher="ema", ema_decay=0.9))
    _, task = fit(config)
    fresh = TTDTask(config, load_backbone(config.arch, device="cpu"), task.source.pairs)
    fresh.load(task.state())
    assert fresh.monitor.values == task.monitor.values and fresh.monitor.values["now"]
    for name, value in task.distiller.average.items():
        assert torch.equal(fresh.distiller.average[name], value)
        assert not torch.equal(value, task.parameters()[name]) or "lora_A" in name


def test_a_finished_run_stays_as_it_is(config):
    outcome, _ = fit(config)
    before = outcome.file.read_bytes()
    again, _ = fit(config)
    assert again.step == 6 and outcome.file.read_bytes() == before and len(lines(config)) == 6


def test_a_run_of_other_settings_is_refused(config):
    fit(replace(config, steps=2))
    with pytest.raises(
        TTDError, match=r"other settings \(lr: 0.001, not 0.002; steps: 2, not 6\).*--overwrite"
    ):
        fit(replace(config, lr=2e-3))
    with pytest.raises(TTDError, match="distill.distance"):
        fit(replace(config, steps=2, distill=DistillConfig(distance="l1")))
    with pytest.raises(TTDError, match="pairs:"):
        fit(replace(config, steps=2, limit=8))
    (config.folder / "precious.safetensors").write_bytes(b"of somebody else")
    assert fit(replace(config, lr=2e-3), overwrite=True)[0].step == 6
    assert (config.folder / "precious.safetensors").read_bytes() == b"of somebody else"


def test_two_runs_in_one_folder_are_refused(config):
    pairs = open_pairs(config.data, config.root)
    with (
        closing(Trainer(TTDTask(config, load_backbone(config.arch, device="cpu"), pairs))),
        pytest.raises(TTDError, match="another run is training there"),
    ):
        Trainer(TTDTask(config, load_backbone(config.arch, device="cpu"), pairs))


def test_a_damaged_checkpoint_is_one_line(config):
    fit(replace(config, steps=2))
    (config.folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(TTDError, match="checkpoint.pt"):
        fit(replace(config, steps=2))


def test_nan_stops_and_the_last_good_adapter_stays(config, monkeypatch):
    original = Distiller.distill

    def distill(self, images, captions, step, others=()):
        result = original(self, images, captions, step)
        return replace(result, total=result.total * math.nan) if step.number == 3 else result

    monkeypatch.setattr(Distiller, "distill", distill)
    with pytest.raises(
        TTDError,
        match=r"stopped at step 4: loss is nan; the last good adapter is .*last.safetensors "
        r"\(step 2\)",
    ) as error:
        fit(config)
    assert "\n" not in str(error.value)
    state, info = read_adapter(config.folder / "last.safetensors")
    assert info.recipe["step"] == 2 and all(torch.isfinite(value).all() for value in state.values())
    assert not (config.folder / "small.safetensors").exists()


def test_collapse_stops_and_names_the_adapter(config, monkeypatch):
    from core.ttd.collapse import CollapseMonitor

    monkeypatch.setattr(
        CollapseMonitor, "update", lambda self, new: "all maps alike" if new.selected >= 0 else None
    )
    with pytest.raises(
        TTDError,
        match=r"stopped at step 1: all maps alike.*last.safetensors \(step 0\).*lower --lr",
    ):
        fit(config)
    assert lines(config)[-1]["stopped"] == "all maps alike"


@pytest.mark.parametrize(
    ("every", "at", "name", "step"),
    [(2, 5, "previous", 2), (4, 15, "previous", 8), (4, 3, "last", 0)],
)
def test_a_collapse_names_an_adapter_from_before_it_began(
    config, monkeypatch, every, at, name, step
):
    """What was stored within the monitor's window may have collapsed already."""
    from core.ttd.collapse import CollapseMonitor

    seen = []
    monkeypatch.setattr(
        CollapseMonitor,
        "update",
        lambda self, new: seen.append(1) or ("all maps alike" if len(seen) == at else None),
    )
    with pytest.raises(
        TTDError, match=rf"last good adapter is \S*{name}.safetensors \(step {step}\)"
    ):
        fit(replace(config, steps=20, checkpoint_every=every))
    assert read_adapter(config.folder / f"{name}.safetensors")[1].recipe["step"] == step


@pytest.mark.parametrize("selection", ["caption", "calibrated"])
def test_broken_samples_are_skipped_counted_and_listed(config, tmp_path, selection):
    config = replace(config, distill=DistillConfig(selection=selection))
    root = write_set(tmp_path / "pairs", 12)
    (root / "cc3m/train/image/cc3m_0003.jpg").write_bytes(b"nothing")
    (root / "cc3m/train/json/cc3m_0005.json").write_text("{")
    outcome, _ = fit(replace(config, root=str(root)))
    listed = [
        json.loads(line) for line in (config.folder / "skipped.jsonl").read_text().splitlines()
    ]
    assert outcome.skipped == 2 and {item["id"] for item in listed} == {"cc3m_0003", "cc3m_0005"}
    assert all(item["reason"] for item in listed)


def test_words_are_compared_with_the_same_pairs_by_all_or_by_none(config, monkeypatch):
    """A pair that another process, or a later one, may be able to read is not left out."""
    config = replace(config, distill=DistillConfig(selection="calibrated", calibration=6))
    whole = task_of(config)
    chosen = whole.agreement()[-1]
    assert len(chosen) == 6
    real = PairSource.read

    def read(error):
        def failing(source, number):
            if number == chosen[2]:
                raise error
            return real(source, number)

        return failing

    monkeypatch.setattr(PairSource, "read", read(OSError(errno.ESTALE, "Stale file handle")))
    with pytest.raises(UnreadableError, match=r"cc3m_\d+: cannot be read now") as away:
        task_of(config)
    assert "\n" not in str(away.value)
    monkeypatch.setattr(PairSource, "read", read(TTDError("damaged")))
    assert task_of(config).agreement()[-1] == chosen[:2] + chosen[3:]  # said where it differs


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"image": 30}, "multiple of .* patch, 8"),
        ({"grad_accum_steps": 3}, "a batch of 4 cannot be shared"),
        ({"lora": LoraConfig(targets=("nonsense",))}, "no linear called nonsense"),
    ],
)
def test_settings_that_do_not_fit_the_model(config, changes, said):
    with pytest.raises(TTDError, match=said):
        fit(replace(config, **changes))
    assert not (config.folder / "checkpoint.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rate, collapses", [(1e-3, True), (1e-4, False)])
def test_a_rate_that_destroys_the_maps_is_noticed(config, rate, collapses):
    """Self-training on its own maps (teacher current), with the monitor as it ships."""
    config = replace(config, steps=60, lr=rate, lora=LoraConfig(rank=2, alpha=8.0))
    if not collapses:
        assert fit(config)[0].step == 60
        return
    with pytest.raises(
        TTDError,
        match=r"stopped at step \d+: .*(grown alike|lost their variance).*last good adapter",
    ):
        fit(config)
    assert read_adapter(config.folder / "last.safetensors")[1].recipe["step"] > 0
