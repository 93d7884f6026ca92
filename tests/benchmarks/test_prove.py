"""The matrix of models and worlds: its file, its rows, and what is wrong in one line."""

import pytest
from paths import ROOT
from prove_ttd import Cells, Model, get_args_parser, head, read_models, row

from core.errors import TTDError


def test_the_grid_is_one_recipe_on_several_models():
    models = read_models(ROOT / "configs" / "proof.yaml")
    configs = [model.config(3, ROOT) for model in models.values()]
    assert len({(config.arch, config.weights) for config in configs}) == len(configs) >= 6
    assert len({repr((config.distill, config.lora, config.lr)) for config in configs}) == 1
    assert all(model.dev not in (model.heldout, "") for model in models.values())
    assert all(config.seed == 3 and config.distill.calibrated for config in configs)
    assert read_models(ROOT / "configs" / "proof.yaml", 7)["TCL"].config(0, ROOT).steps == 7


@pytest.mark.parametrize(
    "text, said",
    [
        ("recipe: ttd_any.yaml\nsettings: {}\nmodels: {a: {arch: tiny}}\n", "heldout"),
        ("recipe: ttd_any.yaml\nmodels: {}\n", "wanted are recipe, settings, models"),
    ],
)
def test_a_wrong_grid_is_one_line(tmp_path, text, said):
    (tmp_path / "grid.yaml").write_text(text)
    (tmp_path / "ttd_any.yaml").write_text("steps: 3\n")
    with pytest.raises(TTDError, match=said):
        read_models(tmp_path / "grid.yaml")


def test_a_model_that_is_not_in_the_grid():
    from prove_ttd import main

    with pytest.raises(TTDError, match="no model nobody .* there are average-pooled"):
        main(["--only", "nobody"])


def test_rows_of_finished_cells(monkeypatch):
    """Gains against hand-made scores; a stopped run is marked."""
    cells = Cells.__new__(Cells)
    cells.name, cells.model, cells.items = "m", Model({}, "", ""), []
    keys = ("pixel_f1", "average_precision", "caption_iou", "word_map_iou")
    made = {
        None: {"scores": dict.fromkeys(keys, 0.5), "stopped": None},
        0: {"scores": dict.fromkeys(keys, 0.6), "stopped": None},
        1: {"scores": dict.fromkeys(keys, 0.8), "stopped": "stopped at step 3"},
    }
    monkeypatch.setattr(Cells, "cell", lambda self, seed: made[seed])
    before, after, gain = cells.rows([0, 1])
    assert before == row("m: before", ["50.0"] * 4)
    assert after.startswith("| after, 1 of 2 stopped | 70.0 ± 14.1 |")
    assert gain == row("gain", ["**+20.0**"] * 4)
    assert len({line.count("|") for line in [*head(), before, after, gain]}) == 1


def test_the_command_line_has_defaults():
    assert get_args_parser().parse_args([]).seeds == [0, 1, 2]
