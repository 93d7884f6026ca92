"""Training TTD from its command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from paths import ROOT
from small_pairs import picture, write_set, write_shards

import train_ttd
from core.errors import TTDError
from core.ttd.config import DistillConfig
from core.utils.config import read_recipe
from tools.training import place

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A training set of 12 pairs."""
    return write_set(tmp_path_factory.mktemp("pairs"), 12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path_factory.getbasetemp() / "ttd_cache"))


def command(config, *options):
    return [sys.executable, str(ROOT / "train_ttd.py"), "--config", str(config), *map(str, options)]


@pytest.fixture
def yaml_file(small_clip, root, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        f"arch: local-dir:{small_clip}\nroot: {root}\nout: {tmp_path / 'run'}\ntag: small\n"
        "steps: 12\nbatch: 4\nlr: 1e-3\nwarmup: 2\ncheckpoint_every: 3\nlog_every: 1\n"
        "device: cpu\nthreads: 1\n"
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
    assert "12 pairs to train on" in said.out and "batch: 4 = 1 process x 4" in said.out
    assert "small.safetensors" in said.out
    stored = json.loads((tmp_path / "run/settings.json").read_text())
    assert stored["settings"]["distill"]["tag_weight"] == 0.5
    assert stored["settings"]["distill"]["anchor_weight"] == 0.1
    assert (tmp_path / "run/best.safetensors").exists()


def test_the_published_command_runs_as_it_stands(tmp_path, monkeypatch):
    """Everything that the command does not say comes from TCL's own recipe."""
    args = train_ttd.get_args_parser().parse_args(
        ["--data", "cc3m+cc12m", "--arch", "TCL", "--scales", "1.0", "--tag", "TCL+TTD"]
    )
    config = train_ttd.choose(vars(args)).config
    assert (config.arch, config.data, config.scales, config.name) == (
        "TCL",
        "cc3m+cc12m",
        (1.0,),
        "TCL+TTD",
    )
    assert config.dtype == "auto"  # of configs/ttd_tcl.yaml


def test_set_arch_takes_that_models_recipe_and_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    args = train_ttd.get_args_parser().parse_args(["--set", "arch=CLIP", "out=~/run"])
    config = train_ttd.choose(vars(args)).config
    assert (config.arch, config.dtype, config.folder) == ("CLIP", "auto", tmp_path / "run")


def test_set_may_be_repeated():
    words = ["--set", "arch=CLIP", "seed=1", "--set", "lora.rank=4", "--set", "seed=2"]
    config = train_ttd.choose(vars(train_ttd.get_args_parser().parse_args(words))).config
    assert (config.arch, config.lora.rank, config.seed) == ("CLIP", 4, 2)


@pytest.mark.parametrize("arch", ["tiny", "tiny-cls", "CLIP", "TCL", "ViT-B-32:openai"])
def test_every_model_takes_the_recipe_without_constants(arch):
    args = train_ttd.get_args_parser().parse_args(["--arch", arch])
    config, any_model = (
        train_ttd.choose(vars(args)).config,
        read_recipe(ROOT / "configs/ttd_any.yaml"),
    )
    assert config.arch == arch
    assert config.distill == DistillConfig(**any_model["distill"])


def test_more_steps_extend_a_finished_run_and_say_so(yaml_file, tmp_path, capsys):
    for steps in ("2", "4"):
        assert train_ttd.main(["--config", str(yaml_file), "--steps", steps]) == 0
    said = capsys.readouterr().out
    assert said.count("extending the finished run of 2 steps: a new schedule over 2 more") == 1
    log = (tmp_path / "run/train_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4]


def test_none_on_the_command_line_is_no_held_out_set():
    args = train_ttd.get_args_parser().parse_args(["--arch", "tiny", "--set", "eval_root=none"])
    assert train_ttd.choose(vars(args)).config.eval_root is None


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
            place(None, gpus)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert place(None, ["1", "0"]) == "cuda:0" and place("cpu", None) == "cpu"
    for wrong, said in (("a", "not a GPU number"), ("7", "not there")):
        with pytest.raises(TTDError, match=said):
            place(None, ["0", wrong])


@pytest.mark.parametrize(
    "options, said",
    [
        (["--set", "lr"], "write KEY=VALUE"),
        (["--set", "distill.anchor=[x"], "not YAML"),
        (["--set", "lora=3", "lora.rank=4", "steps=0"], "steps 0"),
        (["--scales", "nan"], "scales is nan"),
        (["--scales", "1.0", "inf"], "scales is inf"),
        (["--lambda", "nan"], "tag_weight is nan"),
        (["--set", "distill.nonsense=1"], "--set distill.nonsense=1: unknown setting nonsense"),
        (["--set", "lora.rnk=4"], "--set lora.rnk=4: unknown setting rnk; there are rank"),
        (["--set", "lorra.rank=4"], "; did you mean lora?"),
        (["--set", "step=4"], "; did you mean steps?"),
        (["--set", "steps=many"], "--set steps=many: steps must be int, not 'many'"),
        (["--set", "lora.rank=x"], "--set lora.rank=x: rank must be int, not 'x'"),
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


def test_a_mistake_in_what_a_recipe_extends_is_said_of_that_file(yaml_file):
    top = yaml_file.with_name("top.yaml")
    top.write_text(f"extends: {yaml_file.name}\nsteps: 3\n")
    sound = yaml_file.read_text()
    for line, why in (
        ("lora_rank: 4", "unknown setting lora_rank"),
        ("weight_decay: x", "weight_decay must"),
    ):
        yaml_file.write_text(f"{sound}\n{line}\n")
        for options in ([], ["--set", "seed=2"]):
            with pytest.raises(TTDError) as error:
                train_ttd.main(["--config", str(top), *options])
            assert str(error.value).startswith(f"{yaml_file}: {why}")
    with pytest.raises(TTDError, match=r"^--set lora_rank=3: unknown setting lora_rank"):
        train_ttd.main(["--config", str(top), "--set", "lora_rank=3"])
    yaml_file.write_text(f"{sound}\nscales: [0.5]\n")
    with pytest.raises(TTDError, match=r"top.yaml: scales is nan"):  # of a flag, not of the base
        train_ttd.main(["--config", str(top), "--scales", "nan"])


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
        last.startswith("train_ttd.py: stopped after step ") and "the same command resumes" in last
    )
    assert "Traceback" not in said and (tmp_path / "run/last.safetensors").exists()


def test_a_dry_run_says_all_and_writes_nothing(yaml_file, tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(yaml_file.read_text().replace("batch: 4", "batch: 6"))
    options = ["--config", str(yaml_file), "--batch", "3", "--accumulate", "3", "--dry-run"]
    assert train_ttd.main(options) == 0
    said = capsys.readouterr().out
    assert "batch: 3 = 1 process x 3 micro-batches x 1, learning rate 0.0005" in said
    assert "scaled by 3/6" in said and "steps: 12, 3 epochs of 12 pairs" in said
    for start in ("data: ", "parameters: all ", "time: ", "disk: ", "writes: "):
        assert any(line.startswith(start) for line in said.splitlines())
    assert not (tmp_path / "run").exists()
    for more, rate in (
        (["--lr", "0.7"], 0.7),
        (["--no-scale-lr"], 1e-3),
        (["--batch", "12"], 2e-3),
    ):
        args = train_ttd.get_args_parser().parse_args([*options, *more])
        assert train_ttd.choose(vars(args)).config.lr == pytest.approx(rate)


def test_a_missing_shard_is_an_error_unless_it_is_allowed(yaml_file, tmp_path, capsys):
    shards = write_shards(tmp_path / "shards", (6, 6))
    options = ["--config", str(yaml_file), "--steps", "1"]
    options += ["--data", str(shards / "{00000..00002}.tar")]
    with pytest.raises(TTDError, match="1 of 3 shards are missing: .*00002.tar; fetch .*missing"):
        train_ttd.main(options)
    assert train_ttd.main([*options, "--allow-missing"]) == 0
    assert "1 of 3 shards are missing" in capsys.readouterr().err


def test_old_names_are_accepted_with_one_line(yaml_file, capsys):
    yaml_file.write_text(yaml_file.read_text() + "clip: 0.5\n")
    args = train_ttd.get_args_parser().parse_args(["--config", str(yaml_file), "--accumulate", "2"])
    config = train_ttd.choose(vars(args)).config
    assert (config.grad_clip, config.grad_accum_steps) == (0.5, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "clip is called grad_clip now" in said
