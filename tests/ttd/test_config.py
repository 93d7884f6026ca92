"""Settings of a TTD run: YAML and flags in, one checked object out; mistakes are one line."""

import math
from dataclasses import fields
from pathlib import Path

import pytest
from paths import ROOT

from core.errors import TTDError
from core.training.config import identity
from core.training.schedules import learning_rate
from core.ttd.config import DistillConfig, LoraConfig, TTDConfig, load_config
from core.utils.config import merge, plain, read_recipe


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("ttd_*.yaml")), ids=lambda path: path.stem
)
def test_the_shipped_recipes_load_and_begin_with_their_command(path):
    config = load_config(read_recipe(path), str(path))
    first = f"# python train_ttd.py --config configs/{path.name}"
    assert path.read_text().startswith(first) or path.stem == "ttd_ablation"  # of a benchmark
    assert load_config(plain(config)) == config


def test_later_levels_win_key_by_key():
    values = merge(
        {"lr": 1e-3, "lora": {"rank": 2, "alpha": 4.0}},
        {"lora.rank": 6},
        {"distill.teacher": "ema"},
    )
    config = load_config(values)
    assert (config.lr, config.lora) == (1e-3, LoraConfig(rank=6, alpha=4.0))
    assert config.distill == DistillConfig(teacher="ema")


def test_numbers_as_yaml_writes_them(tmp_path):
    """YAML 1.1 reads 1e-4 as a string, and 3 is a float too; True is no number."""
    path = tmp_path / "a.yaml"
    path.write_text("lr: 1e-4\ngrad_clip: 2\nscales: [1, 0.5]\npruned: list.txt\n")
    config = load_config(read_recipe(path))
    assert (config.lr, config.grad_clip, config.scales, config.pruned) == (
        1e-4,
        2.0,
        (1.0, 0.5),
        ("list.txt",),
    )
    with pytest.raises(TTDError, match="steps must be int"):
        load_config({"steps": True})


@pytest.mark.parametrize(
    "values, said",
    [
        ({"leraning_rate": 1}, "unknown setting leraning_rate; there are steps, batch"),
        ({"distill": {"distanc": "l1"}}, "distill: unknown setting distanc; there are distance"),
        ({"distill": {"distance": "l3"}}, "l1, mse, bce"),
        ({"lora": 8}, "lora must be settings of its own"),
        ({"lr": "fast"}, "lr must be float, not 'fast'"),
        ({"lr": 0}, "lr 0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"steps": 0}, "steps 0"),
        ({"crop": 1.5}, "crop 1.5"),
        ({"scales": []}, "scales"),
        ({"dtype": "float64"}, "float32, bfloat16, float16"),
        ({"lora": {"rank": 0}}, "rank 0"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_source(values, said):
    with pytest.raises(TTDError) as error:
        load_config(values, "my.yaml")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_files_that_hold_no_settings(tmp_path):
    for name, content in (("list.yaml", "- a"), ("bad.yaml", "a: [")):
        (tmp_path / name).write_text(content)
        with pytest.raises(TTDError, match=name):
            read_recipe(tmp_path / name)
    with pytest.raises(TTDError, match="No such file"):
        read_recipe(tmp_path / "none.yaml")


def test_a_run_may_change_where_things_are_and_nothing_else():
    config = TTDConfig()
    assert identity(TTDConfig(out="elsewhere", workers=9, device="cpu")) == identity(config)
    assert identity(TTDConfig(lr=2e-4)) != identity(config)
    assert set(identity(config)) | set(TTDConfig.FREE) == {item.name for item in fields(TTDConfig)}


def test_names_of_adapters_fit_for_files():
    assert TTDConfig(arch="TCL").name == "TCL+TTD"
    assert "/" not in TTDConfig(arch="local-dir:/a/b").name
    assert TTDConfig(tag="mine").folder == Path("runs/mine") and TTDConfig(out="x").folder == Path(
        "x"
    )


def test_the_learning_rate_rises_and_falls():
    config = TTDConfig(lr=1.0, warmup=4, steps=14)
    rates = [learning_rate(step, config) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[4] == 1.0
    assert rates[9] == pytest.approx(0.5)  # half of the cosine
    assert all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False)) and 0 < rates[-1] < 0.03
    constant = TTDConfig(lr=1.0, warmup=0, steps=3, schedule="constant")
    assert [learning_rate(step, constant) for step in range(3)] == [1.0] * 3


def test_every_setting_is_in_the_documentation():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    names = [item.name for item in fields(TTDConfig) if item.name not in ("lora", "distill")]
    names += [f"lora.{item.name}" for item in fields(LoraConfig)]
    names += [f"distill.{item.name}" for item in fields(DistillConfig)]
    missing = [name for name in names if f"`{name}`" not in text]
    assert not missing


@pytest.mark.parametrize(
    "values, message",
    [
        ({"distance": "l3"}, "l1, mse, bce"),
        ({"teacher": "me"}, "current, ema, frozen"),
        ({"tag_weight": -1.0}, ">= 0"),
        ({"ema_decay": 1.5}, r"\[0, 1\]"),
        ({"ema_share": 0.5, "teacher": "frozen"}, "it is of teacher 'ema'"),
        ({"ema_share": -0.1, "teacher": "ema"}, r"ema_share -0.1: must be a share in \[0, 1\]"),
        (
            {"rank_weight": 1.0},
            "rank_weight 1 .* 'caption': only .*=calibrated, or --set .*rank_weight=0",
        ),
        ({"rank_words": 0}, "rank_words 0: must be 1 or more"),
        ({"anchor": "frozen"}, "both or neither"),
        ({"anchor_weight": 0.1}, "neither"),
        ({"contrast": 0.5}, "contrast 0.5"),
        ({"refine": "crf"}, "none, pamr"),
    ],
)
def test_wrong_settings_say_what_is_supported(values, message):
    with pytest.raises(TTDError, match=message):
        DistillConfig(**values)
