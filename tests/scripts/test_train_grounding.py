"""train_grounding.py from the command line: published flags, epochs, hostile input, kill -9."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
import torch
from paths import ROOT
from small_grounding import write_backbone, write_phrases

import train_grounding
from core.errors import TTDError

SMALL = ["--set", "layers=1", "hidden=32", "heads=2", "feedforward=32", "stall_percent=0"]
PUBLISHED = (
    "--num_workers 4 --batch_size 64 --lr 0.00025 --lr_bert 0.00001 --aug_crop --aug_scale "
    "--aug_translate --imsize 224 --max_query_len 77 --sup_type full --dataset unc "
    "--data_root /data --split_root /labels --epochs 110 --lr_scheduler cosine "
    "--vl_hidden_dim 512 --output_dir outputs/unc --model ViT-B/16 --clip_max_norm 0.0"
)


@pytest.fixture(scope="module")
def arch(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def phrases(tmp_path_factory):
    return write_phrases(tmp_path_factory.mktemp("phrases"), 24)


@pytest.fixture
def lists(monkeypatch):
    """Stands for lists of 1,000 phrases."""
    monkeypatch.setattr(train_grounding, "training_lists", lambda config: [range(1000)])


def chosen(line, **environment):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        args = vars(train_grounding.get_args_parser().parse_args(line.split()))
        return train_grounding.choose(args).config


def test_the_published_command(lists):
    config = chosen(PUBLISHED, WORLD_SIZE="5")
    assert (config.batch, config.lr, config.arch, config.sup) == (320, 2.5e-4, "CLIP", "full")
    assert config.crop and config.scale and config.translate and not config.blur
    assert (config.epoch_steps, config.steps, config.eval_every) == (3, 330, 3)
    assert (config.image, config.context, config.hidden, config.grad_clip) == (224, 77, 512, None)
    assert config.weight_decay == 1e-4 and config.warmup == 0 and config.dataset == ("unc",)
    assert str(config.folder) == "outputs/unc" and config.schedule == "cosine"


def test_one_gpu_scales_the_rate(lists):
    line = "--dataset unc --data_root d --split_root s"
    assert chosen(f"{line} --batch_size 64").lr == pytest.approx(5e-5)
    assert chosen(f"{line} --batch 64 --lr 1e-4").lr == 1e-4
    pseudo = chosen(f"{line} --sup pseudo")
    assert (pseudo.sup, pseudo.batch) == ("pseudo", 384)
    assert chosen(f"{line} --sup_type un").sup == "pseudo"


def test_epochs_and_drops(lists):
    config = chosen("--dataset unc --epochs 90 --batch 100 --lr_scheduler step --lr_drop 60")
    assert (config.steps, config.epoch_steps, config.lr_drop_every) == (900, 10, 600)
    assert chosen("--dataset unc --steps 7 --batch 100").steps == 7


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model ViT-L/14@336px", "ViT-L/14"),
        ("--dataset coco", "unknown grounding set"),
        ("--lr_scheduler linear", "choose one of"),
        ("--set nothing=1", "unknown setting"),
        ("--prompt find", "must hold"),
        ("--eval-limit 0", "eval_limit 0: must be a whole number"),
        ("--imsize -1", "image -1: must be a whole number"),
        ("--max_query_len 0", "context 0: must be a whole number"),
        ("--vl_nheads 0", "heads 0: must be a whole number"),
        ("--vl_enc_layers -1", "layers -1: must be a whole number"),
        ("--vl_dropout 2", r"dropout 2: must be a share in \[0, 1\)"),
        ("--vl_dropout nan", "dropout is nan"),
        ("--lr_power nan", "lr_power is nan"),
    ],
)
def test_settings_that_cannot_be(lists, line, says):
    with pytest.raises(TTDError, match=says):
        chosen(line)


def command(arch, phrases, out, *more):
    line = ["--arch", arch, "--data", str(phrases), "--val", str(phrases), "--out", str(out)]
    line += ["--device", "cpu", "--batch", "8", "--lr", "1e-3", "--warmup", "0"]
    return [*line, "--steps", "6", "--checkpoint-every", "1", "--eval-every", "3", *more, *SMALL]


def test_own_lists(arch, phrases, tmp_path, capsys):
    assert train_grounding.main(command(arch, phrases, tmp_path / "run")) == 0
    told = capsys.readouterr().out
    assert "24 phrases to train on" in told and "Acc@0.5" in told and "demo.py --ground" in told
    assert (tmp_path / "run/best.safetensors").is_file()
    assert train_grounding.main(command(arch, phrases, tmp_path / "dry", "--dry-run")) == 0
    assert not (tmp_path / "dry").exists()


def test_hostile_lists_are_one_line(arch, phrases, tmp_path):
    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/it-ran",)

    hostile = tmp_path / "list.pth"
    hostile.write_bytes(pickle.dumps([Runs()]))
    with pytest.raises(TTDError, match=r"list\.pth"):
        train_grounding.main(command(arch, hostile, tmp_path / "run"))
    torch.save({"model": Runs()}, tmp_path / "model.pth")
    with pytest.raises(TTDError, match=r"model\.pth"):
        more = ("--init", str(tmp_path / "model.pth"))
        train_grounding.main(command(arch, phrases, tmp_path / "run", *more))
    assert not (tmp_path / "it-ran").exists()


def test_leaking_sets_are_refused(tmp_path):
    images = tmp_path / "other/images/mscoco/images/train2014"
    images.mkdir(parents=True)
    for name, split, image in (("unc", "train", 1), ("unc", "val", 2), ("gref", "train", 2)):
        (tmp_path / name).mkdir(exist_ok=True)
        line = f'{{"image": "{image}.jpg", "box": [0, 0, 1, 1], "text": "x"}}\n'
        (tmp_path / name / f"{name}_{split}.jsonl").write_text(line)
    line = f"--dataset unc gref --data_root {tmp_path} --split_root {tmp_path} --epochs 1"
    with pytest.raises(TTDError, match="1 images of gref_train in unc_val"):
        chosen(line)


@pytest.mark.slow
def test_kill_minus_9(arch, phrases, tmp_path):
    """Killed anywhere, the same command ends with the same bytes."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run = [sys.executable, str(ROOT / "train_grounding.py")]
    subprocess.run([*run, *command(arch, phrases, whole)], check=True, cwd=tmp_path)
    process = subprocess.Popen([*run, *command(arch, phrases, parts)], cwd=tmp_path)
    while not (parts / "checkpoint.pt").exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*run, *command(arch, phrases, parts)], check=True, cwd=tmp_path)
    finished = [next(folder.glob("*+*.safetensors")) for folder in (whole, parts)]
    assert finished[0].read_bytes() == finished[1].read_bytes()


@pytest.mark.slow
def test_two_processes_train_as_one(arch, phrases, tmp_path):
    import json

    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    more = ("--set", "dropout=0.0", *SMALL[1:])
    for name, start in (("one", [sys.executable]), ("two", run)):
        line = [*start, str(ROOT / "train_grounding.py"), *command(arch, phrases, tmp_path / name)]
        subprocess.run([*line, *more], check=True, cwd=tmp_path)
    logs = [(tmp_path / n / "train_log.jsonl").read_text().splitlines() for n in ("one", "two")]
    for first, second in zip(*(map(json.loads, log) for log in logs), strict=True):
        for key in ("loss", "grad_norm"):
            if key in first:
                assert first[key] == pytest.approx(second[key], rel=1e-4)
        for key, value in first.get("heldout", {}).items():
            assert value == pytest.approx(second["heldout"][key], abs=1e-3)
