"""tools/curriculum_world.py: the table's rows are what its models score, and nothing runs twice."""

import json
import re
import shutil
from pathlib import Path

import curriculum_world
import numpy as np
import pytest
from small_grounding import write_backbone, write_phrases

from core.errors import TTDError

SMALL = ["--set", "layers=1", "hidden=32", "heads=2", "feedforward=32", "stall_percent=0"]


def command(folder, *more):
    """Two sources of 24 and 16 labels, two seeds, thresholds 0 and 0.5."""
    first = write_phrases(folder, 24, seed=0)
    short = folder / "short.jsonl"
    rows = [json.loads(line) for line in first.open()]
    short.write_text("".join(json.dumps(row) + "\n" for row in rows[:16]))
    line = ["--sources", str(first), str(short), "--val", str(first), "--test", str(short)]
    line += ["--arch", write_backbone(folder / "clip"), "--out", str(folder / "run")]
    line += ["--device", "cpu", "--steps", "2", "--batch", "4", "--lr", "1e-3", "--fewest", "4"]
    return [*line, "--delta", "0.5", "--seeds", "3", "4", *SMALL, *more]


@pytest.mark.slow
def test_the_table(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("\n".join(["before", *curriculum_world.MARKS, "after"]))
    line = command(tmp_path, "--own", "short", "--update", str(page))
    line += ["--annotated", str(tmp_path / "list.jsonl")]
    assert curriculum_world.main(line) == 0
    told = capsys.readouterr().out
    known = json.loads((tmp_path / "run" / curriculum_world.NAME).read_text())
    found = {
        name: [list(known[f"{seed} {name}"].values()) for seed in (3, 4)]
        for name in ("list", "short")
    }
    for name, labels in (("list", 24), ("short", 16)):
        mean, spread = 100 * np.mean(found[name]), 100 * np.std(found[name], ddof=1)
        assert f"| {name}, all of it | {labels} | {mean:.1f} ± {spread:.1f} |" in told
    assert {"MSA: list", "MSA: list, short", "SSA: list", "SSA: short", "annotated boxes"} <= set(
        re.findall(r"^\| ([^|]*) \| \d", told, re.MULTILINE)
    )
    assert page.read_text().startswith("before\n") and "| MSA: list, short |" in page.read_text()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert curriculum_world.main(line) == 0
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    changed = {path.relative_to(tmp_path) for path in again if again[path] != files.get(path)}
    pictures = {"searches.png", "reliability_list.png", "reliability_short.png"}  # drawn anew
    assert changed <= {Path("run"), *(Path("run") / name for name in pictures)}
    assert [row for row in capsys.readouterr().out.splitlines() if row.startswith("| ")] == [
        row for row in told.splitlines() if row.startswith("| ")
    ]
    # Another test is one more column; nothing is trained, and what is known is not tested again.
    models = {path: path.read_bytes() for path in (tmp_path / "run").rglob("model.safetensors")}
    assert curriculum_world.main([*line, "--test", *line[1:3]]) == 0
    assert "| Acc@0.5, percent | labels | list | short |" in capsys.readouterr().out
    assert len(models) > 4 and all(path.read_bytes() == data for path, data in models.items())
    more = json.loads((tmp_path / "run" / curriculum_world.NAME).read_text())
    assert all(known[key].items() <= more[key].items() and len(more[key]) == 2 for key in known)


def test_overwrite_forgets_what_the_table_has_added(tmp_path):
    made = [tmp_path / name for name in (curriculum_world.NAME, "seed_3/key/model", "other/x")]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    curriculum_world.forget(tmp_path)  # no laboratory: nothing of ours
    assert all(path.exists() for path in made)
    (tmp_path / "curriculum_state.json").touch()
    curriculum_world.forget(tmp_path)
    assert [path.exists() for path in made] == [False, False, True]


def test_what_a_table_has_no_use_for(tmp_path):
    line = command(tmp_path)
    with pytest.raises(TTDError, match="--dry-run: not with a table"):
        curriculum_world.main([*line, "--dry-run"])
    (tmp_path / "a").mkdir()
    twice = str(shutil.copy(tmp_path / "short.jsonl", tmp_path / "a"))
    with pytest.raises(TTDError, match="two files are called short"):
        curriculum_world.main([*line, "--test", str(tmp_path / "short.jsonl"), twice])
    with pytest.raises(TTDError, match="no lines .* to put the table between"):
        curriculum_world.main([*line, "--update", str(tmp_path / "short.jsonl")])
    alone = [*line, "--sources", str(tmp_path / "list.jsonl"), "--own", "list"]
    with pytest.raises(TTDError, match="there is no other source"):
        curriculum_world.main(alone)


@pytest.mark.parametrize("option", ["--own", "--ssa"])
def test_an_unknown_source(tmp_path, option):
    with pytest.raises(TTDError, match=f"{option} ttd: there are list, short"):
        curriculum_world.main(command(tmp_path, option, "ttd"))


def test_annotated_boxes_of_other_images(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    line = command(tmp_path, "--ssa")
    with pytest.raises(TTDError, match="none of its images is in a source"):
        curriculum_world.main([*line, "--annotated", str(write_phrases(other, 4, seed=1))])
