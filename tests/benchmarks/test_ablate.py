"""The ablation: its grid, cells that survive a kill, its tables, and the whole script in small."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from ablation_grid import CellFile, cell_key, chosen_factors, line_of, markdown, read_grid, spread
from paths import ROOT
from PIL import Image
from prove_ttd import read_models

from core.errors import TTDError

NAMES = ("pixel_f1", "caption_iou", "word_map_iou", "word_map_iou_minmax")


def write_grid(folder, factors, recipe=None, **changes):
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(recipe or {"arch": "tiny", "steps": 3, "distill": {"teacher": "frozen"}})
    )
    content = {
        "recipe": "recipe.yaml",
        "settings": {},
        "data": "cc3m",
        "root": "world",
        "heldout": "dev",
        "factors": factors,
    } | changes
    (folder / "grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "grid.yaml"


def test_the_shipped_grid_is_sound_and_covers_what_is_ours():
    grid = read_grid(ROOT / "configs/ablation.yaml")
    assert {
        "distance",
        "lambda",
        "teacher",
        "steps",
        "selection",
        "stop words",
        "encoders",
        "rank",
        "learning rate",
        "head",
        "anchor",
    } <= set(grid.factors)


@pytest.mark.parametrize("file", ["ablation.yaml", "ablation_any.yaml"])
def test_no_two_values_of_a_factor_are_the_same_and_one_is_the_recipes(file):
    grid = read_grid(ROOT / "configs" / file)
    recipe = cell_key(grid.config({}, 0, Path(".")), {})
    for name, values in grid.factors.items():
        keys = [cell_key(grid.config(value.settings, 0, Path(".")), {}) for value in values]
        assert len(set(keys)) == len(keys) > 1 and recipe in keys, name


def test_a_value_that_is_the_recipes_own_is_the_same_cell(tmp_path):
    grid = read_grid(write_grid(tmp_path, {"steps": {"three": {"steps": 3}, "four": {"steps": 4}}}))
    recipe = cell_key(grid.config({}, 0, tmp_path), {})
    three, four = (value.settings for value in grid.factors["steps"])
    assert cell_key(grid.config(three, 0, tmp_path / "elsewhere"), {}) == recipe
    others = [
        cell_key(grid.config(four, 0, tmp_path), {}),
        cell_key(grid.config({}, 1, tmp_path), {}),
        cell_key(grid.config({}, 0, tmp_path), {"pairs": "x"}),
    ]
    assert len({recipe, *others}) == 4
    assert read_grid(tmp_path / "grid.yaml", {"steps": 9}).config({}, 0, tmp_path).steps == 9


def test_mistakes_in_a_grid_are_named(tmp_path):
    with pytest.raises(TTDError, match="there are distance, "):
        chosen_factors(read_grid(ROOT / "configs/ablation.yaml"), ["teachers"])
    with pytest.raises(TTDError, match="unknown setting stepz"):
        read_grid(write_grid(tmp_path, {"steps": {"three": {"stepz": 3}}}))
    with pytest.raises(TTDError, match="write a line"):
        read_grid(write_grid(tmp_path, {"steps": [1, 2]}))
    with pytest.raises(TTDError, match="wanted are recipe"):
        read_grid(write_grid(tmp_path, {}, colour="red"))


def test_a_mistake_in_a_recipe_is_not_said_of_the_grid(tmp_path):
    bad = {"arch": "tiny", "distill": {"teachr": "frozen"}}
    with pytest.raises(TTDError, match=r"/recipe\.yaml: distill: unknown setting teachr"):
        read_grid(write_grid(tmp_path, {"steps": {"three": {"steps": 3}}}, bad))
    (tmp_path / "base.yaml").write_text("lr: fast\n")
    with pytest.raises(TTDError, match=r"/base\.yaml: lr must be float"):
        read_grid(write_grid(tmp_path, {}, {"extends": "base.yaml", "arch": "tiny"}))
    (tmp_path / "proof.yaml").write_text("recipe: base.yaml\nsettings: {}\nmodels: {a: {}}\n")
    with pytest.raises(TTDError, match=r"/base\.yaml: lr must be float"):
        read_models(tmp_path / "proof.yaml")


def test_cells_survive_being_cut_off_anywhere(tmp_path):
    path = tmp_path / "deep" / "cells.jsonl"
    cells = CellFile(path)
    for k in range(3):
        cells.add(f"key{k}", {"scores": {"f1": k}, "stopped": None})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = CellFile(path)
        assert list(found.cells) == [f"key{k}" for k in range(whole[:length].count(b"\n"))]
        found.add("new", {"scores": {}})
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [*found.cells]
    path.write_text("a line of something else\n")
    with pytest.raises(TTDError, match="cells.jsonl:1: no cell"):
        CellFile(path)


def test_shares_write_files_of_their_own_and_know_each_others_cells(tmp_path):
    path, shares = tmp_path / "cells.jsonl", [None, (0, 2), (1, 2)]
    for share, key in zip(shares, "abc", strict=True):
        CellFile(path, share).add(key, {"scores": {}})
    names = ["cells.0-of-2.jsonl", "cells.1-of-2.jsonl", "cells.jsonl"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert all(set(CellFile(path, share).cells) == set("abc") for share in [*shares, (2, 3)])


def test_tables_show_mean_and_sample_deviation():
    values = [0.5, 0.6, 0.7]
    assert spread(values) == "60.0 ± 10.0" and spread([0.1234]) == "12.3" and spread([]) == "-"
    cells = [
        {"scores": dict.fromkeys(NAMES, value), "stopped": "x" if value > 0.65 else None}
        for value in values
    ]
    text = markdown("steps", [line_of("3", cells, recipe=True), line_of("4", cells[:1])])
    assert (
        "| **3** | **60.0 ± 10.0** |" in text
        and "3, 1 stopped †" in text
        and "| 4 | 50.0 |" in text
    )
    assert {row.count("|") for row in text.splitlines()} == {7}


def heldout_set(folder):
    """Three captions with masks, on images of noise."""
    base, random = folder / "cc3m_for_evaluation", np.random.default_rng(0)
    for name in ("image", "json_refined", "mask_using_HQ-SAM"):
        (base / name).mkdir(parents=True)
    for k in range(3):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
            base / f"image/{k}.png"
        )
        (base / f"json_refined/{k}.json").write_text(
            json.dumps({"text": "a red dog and the cat", "tags": ["dog"]})
        )
        (base / f"mask_using_HQ-SAM/{k}").mkdir()
        mask = np.zeros((32, 32), np.uint8)
        mask[4 : 20 + k, 8:24] = 255
        Image.fromarray(mask).save(base / f"mask_using_HQ-SAM/{k}/dog.png")
    return str(folder)


@pytest.fixture
def harness(monkeypatch, small_clip, tmp_path):
    from small_pairs import write_set

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    import ablate_ttd

    recipe = {
        "arch": f"local-dir:{small_clip}",
        "steps": 2,
        "batch": 4,
        "device": "cpu",
        "warmup": 0,
        "lora": {"rank": 2, "alpha": 2.0},
    }
    grid = write_grid(
        tmp_path,
        {
            "rate": {"low": {"lr": 1e-4}, "high": {"lr": 1e-2}},
            "head": {"plain": {"head": "vanilla"}},
        },
        recipe,
        root=str(write_set(tmp_path / "pairs", 8)),
        heldout=heldout_set(tmp_path / "dev"),
    )

    def call(*flags):
        return ablate_ttd.main(
            [
                "--config",
                str(grid),
                "--seeds",
                "0",
                "1",
                "--cells",
                str(tmp_path / "cells.jsonl"),
                *flags,
            ]
        )

    return call


def test_the_script_fills_the_page_and_never_runs_a_cell_twice(
    harness, tmp_path, monkeypatch, capsys
):
    page, cells = tmp_path / "page.md", tmp_path / "cells.jsonl"
    import ablate_ttd

    page.write_text(f"before\n{ablate_ttd.MARKS[0]}\nold\n{ablate_ttd.MARKS[1]}\nafter\n")
    assert harness("--only", "rate", "--update", str(page)) == 0
    first = page.read_text()
    assert first.startswith("before\n") and first.endswith("\nafter\n") and "\nold\n" not in first
    assert (
        "--only rate" in first
        and "| **low** |" in first
        and "| high |" in first
        and "untrained" in first
    )
    stored = [json.loads(line) for line in cells.read_text().splitlines()]
    assert len(stored) == 5  # untrained; recipe (= low) and high with two seeds each
    assert (
        stored[3]["scores"] != stored[4]["scores"]
    )  # the seed matters, where the rate is high enough to see it
    assert not [
        path for path in tmp_path.iterdir() if len(path.name) == 24
    ]  # runs leave nothing behind

    cells.write_text("\n".join(cells.read_text().splitlines()[:-1]) + "\n" + '{"key": "cut o')
    assert harness("--only", "rate", "--update", str(page)) == 0
    again = [json.loads(line) for line in cells.read_text().splitlines()]
    assert [c["scores"] for c in again] == [
        c["scores"] for c in stored
    ]  # the lost cell again, the same to the bit
    import core.training.trainer

    monkeypatch.setattr(core.training.trainer, "Trainer", None)
    assert harness("--only", "rate") == 0
    assert "| **low** |" in capsys.readouterr().out


def test_shares_together_run_every_cell_once(harness, tmp_path, monkeypatch, capsys):
    import core.training.trainer

    for part in ("1/2", "0/2"):
        assert harness("--only", "rate", "--share", part) == 0
    assert "| low |" not in capsys.readouterr().out
    lines = [path.read_text().splitlines() for path in sorted(tmp_path.glob("cells.*-of-2.jsonl"))]
    assert [len(some) for some in lines] == [3, 2] and len(
        {json.loads(line)["key"] for line in sum(lines, [])}
    ) == 5
    monkeypatch.setattr(core.training.trainer, "Trainer", None)
    assert harness("--only", "rate") == 0 and "| **low** |" in capsys.readouterr().out
    with pytest.raises(SystemExit) as error:
        harness("--share", "2/2")
    assert error.value.code == 2


def test_a_run_that_was_stopped_is_scored_and_marked(harness, tmp_path, monkeypatch, capsys):
    import core.training.trainer

    def stopped(self, values):
        raise TTDError("stopped at step 1: the word maps have lost their variance; more words")

    monkeypatch.setattr(core.training.trainer.Trainer, "_check", stopped)
    assert harness("--only", "head") == 0
    assert "2 stopped †" in capsys.readouterr().out
    cell = json.loads((tmp_path / "cells.jsonl").read_text().splitlines()[1])
    assert cell["stopped"] == "stopped at step 1: the word maps have lost their variance"
