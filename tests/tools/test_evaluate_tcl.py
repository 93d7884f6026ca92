"""tools/evaluate_tcl.py: what is run, what is left out, the table."""

import json

import evaluate_tcl
import numpy as np
import pytest
from evaluate_tcl import PUBLISHED, Score
from PIL import Image
from small_pairs import picture

from core.errors import TTDError


def write_world(root, count=2):
    """ROOT/World/validation with random labels."""
    folder = root / "World" / "validation"
    for name in ("image", "mask"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        picture(number, (60, 44)).save(folder / "image" / f"p{number}.png")
        labels = np.random.default_rng(number).integers(0, 4, (44, 60)).astype(np.uint8)
        Image.fromarray(labels).save(folder / "mask" / f"p{number}.png")
    return root


def test_published_means():
    columns = list(zip(*PUBLISHED.values(), strict=True))
    assert [round(sum(column) / 8, 1) for column in columns] == [37.2, 33.9]


def test_table_has_ours_beside_published_and_the_mean():
    names = ["VOC20", "ADE2016"]
    scores = {
        (name, pamr): Score(0.5 + 0.1 * pamr + 0.2 * (name == "ADE2016"), {"all dog": 0.01}, 7)
        for name in names
        for pamr in (True, False)
    }
    lines = evaluate_tcl.table(names, scores).splitlines()
    assert lines[2] == "| ours, PAMR, threshold 0.4 | 60.0 | 80.0 | 70.0 |"
    assert lines[3] == "| published, PAMR, threshold 0.4 | 83.2 | 17.1 | 50.2 |"
    assert lines[5] == "| published, no PAMR, threshold 0.5 | 77.5 | 14.9 | 46.2 |"
    assert lines[6] == "| *all dog* | 1.0 | 1.0 | 1.0 |" and lines[7] == "| images | 7 | 7 | |"


def test_sets_that_are_not_there_are_named(tmp_path, capsys):
    root = write_world(tmp_path)
    assert evaluate_tcl.present(["VOC20", "World"], str(root)) == ["World"]
    assert "VOC20 is left out" in capsys.readouterr().err
    with pytest.raises(TTDError, match="none of the sets"):
        evaluate_tcl.present(["VOC20", "ADE2016"], str(root))


def test_one_command_segments_and_scores(tmp_path, small_tcl, capsys):
    root = write_world(tmp_path)
    line = ["--root", str(root), "--weights", str(small_tcl), "--data", "World", "--image", "64"]
    line += ["--device", "cpu", "--out", str(tmp_path / "out")]
    assert evaluate_tcl.main([*line, "--json", str(tmp_path / "scores.json")]) == 0
    assert "| ours, no PAMR, threshold 0.5 |" in capsys.readouterr().out
    rows = json.loads((tmp_path / "scores.json").read_text())
    assert [(row["data"], row["pamr"], row["images"]) for row in rows] == [
        ("World", True, 2),
        ("World", False, 2),
    ]
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(folders) == 2 and "@pamr" in folders[1] and "bg=0.40" in folders[1]
    assert "bg=0.50" in folders[0] and all("protocol=tcl" in name for name in folders)
