"""Training from its command line and from Python: what it learns, what it leaves, how it stops and goes on."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from paths import ROOT
from small_pairs import picture, write_set

import train_ttd
from core.backbones import load_backbone
from core.backbones.lora.adapter import adapter_parameters, add_adapter, read_adapter
from core.data.pairs import open_pairs
from core.errors import TTDError
from core.training.trainer import GUARDS, Trainer, score
from core.ttd.config import LoraConfig, TTDConfig
from core.ttd.loss import DistillConfig, embed, gather_texts, ttd_loss
from core.ttd.task import Distiller

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A training set of 12 pairs."""
    return write_set(tmp_path_factory.mktemp("pairs"), 12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path_factory.getbasetemp() / "ttd_cache"))


@pytest.fixture
def config(small_clip, root, tmp_path):
    return TTDConfig(
        arch=f"local-dir:{small_clip}",
        root=str(root),
        steps=6,
        batch=4,
        lr=1e-3,
        warmup=2,
        tag="small",
        out=str(tmp_path / "run"),
        checkpoint_every=2,
        log_every=1,
        eval_every=2,
        device="cpu",
        lora=LoraConfig(rank=2, alpha=2.0),
    )


def fit(config, evaluate=None, overwrite=False, **run):
    """One run from the start or the last checkpoint: (outcome, trainer)."""
    pairs = open_pairs(config.data, config.root, config.pruned, config.limit)
    backbone = load_backbone(config.arch, head=config.head, device="cpu")
    with closing(
        Trainer(config, backbone, pairs, evaluate=evaluate, overwrite=overwrite)
    ) as trainer:
        return trainer.run(**run), trainer


def lines(config):
    return [
        json.loads(line) for line in (config.folder / "train_log.jsonl").read_text().splitlines()
    ]


def guards(*values):
    return dict(zip(GUARDS, values, strict=True))


def test_training_lowers_its_loss_and_leaves_the_base_alone(config):
    """Against a fixed target (frozen teacher), over the same pairs again and again."""
    config = replace(config, steps=30, lr=5e-3, batch=12, distill=DistillConfig(teacher="frozen"))
    plain = load_backbone(config.arch, device="cpu").state_dict()
    outcome, trainer = fit(config)
    losses = [line["loss"] for line in lines(config)]
    assert losses[-1] < 0.8 * losses[0]
    after = {
        name.replace(".base_layer", ""): value
        for name, value in trainer.backbone.state_dict().items()
    }
    assert all(torch.equal(after[name], value) for name, value in plain.items())
    assert {
        "distill",
        "tag",
        "anchor",
        "spread",
        "alike",
        "selected",
        "grad_norm",
        "lr",
        "pairs_per_s",
    } <= lines(config)[-1].keys()
    adapted = load_backbone(config.arch, lora=outcome.adapter, device="cpu")
    with torch.no_grad():
        assert torch.allclose(
            adapted.encode_text(["a dog"]), trainer.backbone.encode_text(["a dog"]), atol=1e-6
        )
        assert not torch.allclose(
            adapted.encode_text(["a dog"]),
            load_backbone(config.arch, device="cpu").encode_text(["a dog"]),
            atol=1e-3,
        )


def test_the_adapter_says_what_made_it(config):
    outcome, trainer = fit(replace(config, steps=2, peft=True))
    state, info = read_adapter(outcome.adapter)
    assert outcome.adapter.name == "small.safetensors" and info.arch == config.arch
    assert (info.rank, info.alpha, info.head) == (2, 2.0, trainer.backbone.head)
    assert info.base_checksum == load_backbone(config.arch, device="cpu").checksum
    assert info.recipe["lr"] == config.lr and info.recipe["step"] == 2
    folder, _ = read_adapter(outcome.adapter.with_suffix(""))
    assert state.keys() == folder.keys() and all(
        torch.equal(state[name], folder[name]) for name in state
    )


def test_accumulation_changes_nothing_but_rounding(config):
    for name, parts in (("whole", 1), ("parts", 4)):
        fit(replace(config, out=f"{config.out}_{name}", accumulate=parts))
    a, b = (
        read_adapter(f"{config.out}_{name}/small.safetensors")[0] for name in ("whole", "parts")
    )
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-5


def first_part(config, backbone, distill, pairs):
    """A distiller on a backbone whose adapter is not 0, images and captions."""
    add_adapter(backbone, ["text.blocks.0.attn.q_proj", "visual.blocks.0.attn.v_proj"], 2, 2.0)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in adapter_parameters(backbone).values():
            value.copy_(0.3 * torch.randn(value.shape, generator=draw))
    images = torch.rand(3, 3, 32, 32, generator=draw)
    return Distiller(backbone, distill), images, [pairs[i].text for i in range(3)]


@pytest.mark.parametrize("teacher", ["current", "ema", "frozen"])
def test_the_teacher_is_the_one_asked_for(config, teacher):
    """Against the loss with a teacher that is a model of its own."""
    pairs = open_pairs(config.data, config.root)
    distill = DistillConfig(teacher=teacher, ema_decay=0.5)
    distiller, images, captions = first_part(
        config, load_backbone(config.arch, device="cpu"), distill, pairs
    )
    other = load_backbone(config.arch, device="cpu")
    if teacher != "frozen":  # the average after one update of the adapter to twice its values
        first_part(config, other, distill, pairs)
        if teacher == "ema":
            with torch.no_grad():
                for mine, theirs in zip(
                    distiller.parameters.values(), adapter_parameters(other).values(), strict=True
                ):
                    mine.mul_(2)
                    theirs.mul_(1.5)  # half old, half new
            distiller.follow()
    texts = gather_texts(captions)
    with torch.no_grad():
        inputs = distiller.backbone.normalize(images)
        student, target = embed(distiller.backbone, inputs, texts), embed(other, inputs, texts)
        want = ttd_loss(student, texts, distill, (1.0, 0.0), teacher=target)
    part = distiller.part(images, captions)
    assert part.total.item() == pytest.approx(want.total.item(), rel=1e-5)
    part.total.backward()
    assert all(value.grad is not None for value in distiller.parameters.values())


def test_bf16_keeps_adapter_and_loss_in_float32(config):
    pairs = open_pairs(config.data, config.root)
    backbone = load_backbone(config.arch, device="cpu")
    exact, images, captions = first_part(config, backbone, DistillConfig(), pairs)
    rounded = Distiller(backbone, DistillConfig(), torch.bfloat16)
    a, b = exact.part(images, captions).total, rounded.part(images, captions).total
    b.backward()
    assert (
        b.dtype == torch.float32
        and a.item() != b.item()
        and a.item() == pytest.approx(b.item(), rel=0.2)
    )
    assert {value.dtype for value in adapter_parameters(backbone).values()} == {torch.float32}
    assert {value.grad.dtype for value in adapter_parameters(backbone).values()} == {torch.float32}


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
    assert outcome.adapter.read_bytes() == (config.folder / "best.safetensors").read_bytes()
    assert outcome.adapter.read_bytes() != (config.folder / "last.safetensors").read_bytes()
    assert [line["step"] for line in lines(config) if "heldout" in line] == [0, 2, 4, 6]
    table = iter(
        [guards(0.9, 0.9, 0.9), guards(0.5, 0.5, 0.5), guards(0.2, 0.2, 0.2), guards(0.1, 0.1, 0.1)]
    )
    outcome, _ = fit(
        replace(config, keep="last"), evaluate=lambda backbone: next(table), overwrite=True
    )
    assert outcome.adapter.read_bytes() == (config.folder / "last.safetensors").read_bytes()


def test_the_score_is_the_harmonic_mean():
    assert score(guards(0.5, 0.5, 0.5)) == pytest.approx(0.5)
    assert score(guards(1.0, 0.5, 0.25)) == pytest.approx(3 / 7)
    assert score(guards(1.0, 0.0, 1.0)) < 1e-6
    assert (
        score(guards(0.5, math.nan, 0.5)) == pytest.approx(0.5)
        and score(guards(*[math.nan] * 3)) == 0
    )


def test_stopped_and_gone_on_with_is_the_same_to_the_byte(config):
    """The EMA, the optimizer, the collapse monitor and the log all go on."""
    ema = DistillConfig(teacher="ema", ema_decay=0.8)
    whole = replace(config, distill=ema)
    fit(whole)
    parts = replace(whole, out=f"{config.out}_parts", workers=3)
    steps = iter([False, False, True, True, False, False, False])
    outcome, trainer = fit(parts, should_stop=lambda: next(steps))
    assert outcome.stopped and outcome.step == 3 and outcome.adapter.name == "last.safetensors"
    assert fit(parts, should_stop=lambda: next(steps))[0].step == 4
    outcome, trainer = fit(parts)
    assert not outcome.stopped
    for name in ("small.safetensors", "last.safetensors"):
        assert (whole.folder / name).read_bytes() == (parts.folder / name).read_bytes()
    timeless = [
        [{k: v for k, v in line.items() if k != "pairs_per_s"} for line in lines(c)]
        for c in (whole, parts)
    ]
    assert timeless[0] == timeless[1]


def test_a_finished_run_stays_as_it_is(config):
    outcome, _ = fit(config)
    before = outcome.adapter.read_bytes()
    again, _ = fit(config)
    assert again.step == 6 and outcome.adapter.read_bytes() == before and len(lines(config)) == 6


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
        closing(Trainer(config, load_backbone(config.arch, device="cpu"), pairs)),
        pytest.raises(TTDError, match="another run is training there"),
    ):
        Trainer(config, load_backbone(config.arch, device="cpu"), pairs)


def test_a_damaged_checkpoint_is_one_line(config):
    fit(replace(config, steps=2))
    (config.folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(TTDError, match="checkpoint.pt"):
        fit(replace(config, steps=2))


def test_nan_stops_and_the_last_good_adapter_stays(config, monkeypatch):
    original, calls = Distiller.part, []

    def part(self, images, captions):
        calls.append(1)
        result = original(self, images, captions)
        return (
            replace(result, total=result.total * math.nan, statistics=result.statistics * math.nan)
            if len(calls) == 4
            else result
        )

    monkeypatch.setattr(Distiller, "part", part)
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
    """It is noticed late: what was stored within the monitor's window may have collapsed already."""
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


def test_tensorboard_hears_numbers_alone_and_a_full_disk_is_one_line(config, monkeypatch, tmp_path):
    from core.training.log import TrainLog

    heard = []

    class Writer:
        def add_scalar(self, name, value, step):
            heard.append((name, float(value), step))

    class Full:
        name = "train_log.jsonl"

        def write(self, text):
            raise OSError(28, "No space left on device")

    log = TrainLog.__new__(TrainLog)
    log._file, log._writer = (tmp_path / "log").open("w"), Writer()
    log.write(3, {"loss": 0.5, "stopped": "the maps have grown alike"})
    assert heard == [("train/loss", 0.5, 3)]
    log._file = Full()
    with pytest.raises(TTDError, match="train_log.jsonl: cannot be written .No space left"):
        log.write(4, {"loss": 0.5})


def test_broken_samples_are_skipped_counted_and_listed(config, tmp_path):
    root = write_set(tmp_path / "pairs", 8)
    (root / "cc3m/train/image/cc3m_0003.jpg").write_bytes(b"nothing")
    (root / "cc3m/train/json/cc3m_0005.json").write_text("{")
    outcome, _ = fit(replace(config, root=str(root)))
    listed = [
        json.loads(line) for line in (config.folder / "skipped.jsonl").read_text().splitlines()
    ]
    assert outcome.skipped == 2 and {item["id"] for item in listed} == {"cc3m_0003", "cc3m_0005"}
    assert all(item["reason"] for item in listed)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"image": 30}, "multiple of .* patch, 8"),
        ({"accumulate": 3}, "a batch of 4 pairs cannot be shared"),
        ({"lora": LoraConfig(targets=("nonsense",))}, "no linear called nonsense"),
    ],
)
def test_settings_that_do_not_fit_the_model(config, changes, said):
    with pytest.raises(TTDError, match=said):
        fit(replace(config, **changes))
    assert not (config.folder / "checkpoint.pt").exists()


def test_tcl_trains_its_text_tower_and_its_masker(small_tcl, config):
    config = replace(config, arch="TCL", weights=str(small_tcl), steps=2, batch=2)
    pairs = open_pairs(config.data, config.root)
    backbone = load_backbone("TCL", weights=small_tcl, device="cpu")
    with closing(Trainer(config, backbone, pairs)) as trainer:
        trainer.run()
    names = set(adapter_parameters(backbone))
    assert {name.split(".")[0] for name in names} == {"text", "masker"}
    moved = {
        name.split(".")[0]
        for name, value in adapter_parameters(backbone).items()
        if name.endswith("lora_B.weight") and value.abs().max() > 0
    }
    assert moved == {"text", "masker"}


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


@pytest.mark.slow
def test_a_step_of_tcl_in_its_official_shapes(config, tmp_path):
    import oracle_tcl
    from small_tcl import save

    weights = oracle_tcl.random_checkpoint(oracle_tcl.tcl_shapes(), 0)
    config = replace(
        config, arch="TCL", steps=1, batch=1, limit=1, eval_every=1, checkpoint_every=1
    )
    backbone = load_backbone("TCL", weights=save(tmp_path / "tcl.pth", weights), device="cpu")
    with closing(
        Trainer(config, backbone, open_pairs(config.data, config.root, limit=1))
    ) as trainer:
        assert trainer.run().step == 1
    assert math.isfinite(lines(config)[0]["loss"])


# From the command line


def command(config, *options):
    return [sys.executable, str(ROOT / "train_ttd.py"), "--config", str(config), *map(str, options)]


@pytest.fixture
def yaml_file(small_clip, root, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        f"arch: local-dir:{small_clip}\nroot: {root}\nout: {tmp_path / 'run'}\ntag: small\nsteps: 12\n"
        "batch: 4\nlr: 1e-3\nwarmup: 2\ncheckpoint_every: 3\nlog_every: 1\ndevice: cpu\nthreads: 1\n"
        "lora: {rank: 2}\n"
    )
    return path


def held_out_set(folder: Path, count: int = 3) -> Path:
    """CC3M-TagMask's layout."""
    import numpy as np
    from PIL import Image

    for i in range(count):
        for name in ("image", "json_refined", f"mask_using_HQ-SAM/h{i}"):
            (folder / "cc3m_for_evaluation" / name).mkdir(parents=True, exist_ok=True)
        base = folder / "cc3m_for_evaluation"
        picture(50 + i).save(base / f"image/h{i}.jpg")
        (base / f"json_refined/h{i}.json").write_text(
            json.dumps({"text": "a red dog and a tree", "tags": ["dog"]})
        )
        mask = np.zeros((32, 40), np.uint8)
        mask[8:20, 5 : 20 + i] = 255
        Image.fromarray(mask).save(base / f"mask_using_HQ-SAM/h{i}/dog.png")
    return folder


def test_main_trains_evaluates_and_reports(yaml_file, tmp_path, capsys):
    options = [
        "--config",
        str(yaml_file),
        "--steps",
        "2",
        "--eval-root",
        str(held_out_set(tmp_path / "held")),
        "--lambda",
        "0.5",
        "--set",
        "distill.anchor=frozen",
        "distill.anchor_weight=0.1",
    ]
    assert train_ttd.main(options) == 0
    said = capsys.readouterr()
    assert "pixel_f1   caption_iou  word_map_iou" in said.out and "step 2 (last)" in said.out
    assert "12 pairs, 2 steps of 4, 1 process, cpu" in said.out and "small.safetensors" in said.out
    stored = json.loads((tmp_path / "run/settings.json").read_text())
    assert stored["settings"]["distill"]["tag_weight"] == 0.5
    assert stored["settings"]["distill"]["anchor_weight"] == 0.1
    assert (tmp_path / "run/best.safetensors").exists()


def test_the_published_command_runs_as_it_stands(tmp_path, monkeypatch):
    """--data cc3m+cc12m --arch TCL --scales 1.0 --tag "TCL+TTD": everything else comes from TCL's own recipe."""
    args = train_ttd.get_args_parser().parse_args(
        ["--data", "cc3m+cc12m", "--arch", "TCL", "--scales", "1.0", "--tag", "TCL+TTD"]
    )
    config = train_ttd.settings(vars(args))
    assert (config.arch, config.data, config.scales, config.name) == (
        "TCL",
        "cc3m+cc12m",
        (1.0,),
        "TCL+TTD",
    )
    assert config.dtype == "bfloat16"  # of configs/ttd_tcl.yaml


def test_set_arch_takes_that_models_recipe_and_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    args = train_ttd.get_args_parser().parse_args(["--set", "arch=CLIP", "out=~/run"])
    config = train_ttd.settings(vars(args))
    assert (config.arch, config.dtype, config.folder) == ("CLIP", "bfloat16", tmp_path / "run")


def test_every_process_says_no_when_there_are_too_few_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    for local, count, gpus in ((0, 4, None), (3, 4, None), (0, 2, ["1"])):
        monkeypatch.setenv("LOCAL_RANK", str(local))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))
        with pytest.raises(
            TTDError, match=f"{count} processes on this machine for {1 if gpus else 2} GPUs"
        ):
            train_ttd.place(None, gpus)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert train_ttd.place(None, ["1", "0"]) == "cuda:0" and train_ttd.place("cpu", None) == "cpu"
    for wrong, said in (("a", "not a GPU number"), ("7", "not there")):
        with pytest.raises(TTDError, match=said):
            train_ttd.place(None, ["0", wrong])


def test_a_folder_of_something_else_is_one_line(config):
    config.folder.mkdir()
    (config.folder / "settings.json").write_text("{}")
    with pytest.raises(TTDError, match="not of a training run"):
        fit(config)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--set", "lr"], "write KEY=VALUE"),
        (["--set", "distill.anchor=[x"], "no value that YAML can read"),
        (["--set", "lora=3", "lora.rank=4", "steps=0"], "steps 0"),
        (["--scales", "nan"], "positive numbers are due"),
        (["--scales", "1.0", "inf"], "positive numbers are due"),
        (["--lambda", "nan"], "weights must be >= 0"),
        (["--set", "distill.nonsense=1"], "unknown setting nonsense"),
        (["--data", "nowhere"], "no pairs called nowhere"),
        (["--gpus", "0", "1"], "torchrun --nproc_per_node 2"),
        (["--eval-root", "nowhere"], "nowhere"),
        (["--pruned", "none.txt"], "pruned list cannot be read"),
    ],
)
def test_mistakes_are_one_line(yaml_file, options, said):
    with pytest.raises(TTDError) as error:
        train_ttd.main(["--config", str(yaml_file), *options])
    assert said in str(error.value) and "\n" not in str(error.value)


def wait_for(path: Path, text: str, process: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{text} did not appear in {path}: {process.communicate()}")


@pytest.mark.slow
def test_killed_and_run_again_ends_with_the_same_bytes(yaml_file, tmp_path):
    options = [
        "--steps",
        "60",
        "--lr",
        "1e-4",
        "--eval-root",
        held_out_set(tmp_path / "held"),
        "--eval-every",
        "20",
    ]
    whole = subprocess.run(
        command(yaml_file, *options, "--out", tmp_path / "whole"),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen(
        command(yaml_file, *options),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path / "run/train_log.jsonl", '"step": 7,', killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "run/small.safetensors").exists()
    again = subprocess.run(
        command(yaml_file, *options), env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert again.returncode == 0 and "resuming after step" in again.stdout, again.stderr
    for name in ("small.safetensors", "last.safetensors", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_ctrl_c_stores_and_says_so_in_one_line(yaml_file, tmp_path):
    process = subprocess.Popen(
        command(yaml_file, "--steps", "5000"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path / "run/train_log.jsonl", '"step": 4,', process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    last = said.strip().splitlines()[-1]
    assert (
        last.startswith("train_ttd.py: stopped after step ") and "the same command goes on" in last
    )
    assert "Traceback" not in said and (tmp_path / "run/last.safetensors").exists()
