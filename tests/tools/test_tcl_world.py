"""tools/tcl_world.py: the table over runs, and which adapter goes on which checkpoint."""

import pytest
import tcl_world

from core.errors import TTDError


def test_table_has_mean_and_sample_deviation_over_runs():
    rows = {
        "*all background*": [{"miou": 0.031, "caption_iou": 0.0}],
        "frozen CLIP": [dict.fromkeys(tcl_world.COLUMNS, 0.2)],
        "TCL": [dict.fromkeys(tcl_world.COLUMNS, value) for value in (0.3, 0.4, 0.5)],
        "TCL+TTD": [],
    }
    lines = tcl_world.table(rows, 7).splitlines()
    assert lines[0].startswith("| 7 images, percent | mIoU | word maps |")
    assert lines[2] == "| *all background* | 3.1 |  |  | 0.0 |  | 1 |"
    assert lines[3] == "| frozen CLIP | 20.0 | 20.0 | 20.0 | 20.0 | 20.0 | 1 |"
    assert lines[4].startswith("| TCL | 40.0 ± 10.0 |") and lines[4].endswith("| 3 |")
    assert len(lines) == 5  # no runs, no row


def test_every_adapter_has_its_checkpoint():
    with pytest.raises(TTDError, match="2 adapters for 1 checkpoints"):
        tcl_world.main(["--tcl", "a.pth", "--ttd", "a.safetensors", "b.safetensors"])


def test_every_model_is_scored_on_the_same_images(monkeypatch, capsys):
    """Checkpoints alone, then each with its adapter, in the order of the command."""
    seen = []
    monkeypatch.setattr("core.data.heldout.load_heldout", lambda root, limit: ["image"] * limit)
    monkeypatch.setattr(tcl_world, "trivial", lambda args, items: {})
    monkeypatch.setattr(tcl_world, "fresh", lambda base: base)
    monkeypatch.setattr(tcl_world, "loaded", lambda weights, lora=None: (weights, lora))

    def scores(args, items, model):
        seen.append((len(items), model))
        return dict.fromkeys(tcl_world.COLUMNS, 0.1 * len(seen))

    monkeypatch.setattr(tcl_world, "scores", scores)
    line = ["--limit", "3", "--tcl", "a", "b", "--ttd", "x", "y"]
    assert tcl_world.main(line) == 0
    models = ["tiny-cls", ("a", None), ("b", None), ("a", "x"), ("b", "y")]
    assert seen == [(3, model) for model in models]
    assert "| TCL+TTD | 45.0 ± 7.1 |" in capsys.readouterr().out
