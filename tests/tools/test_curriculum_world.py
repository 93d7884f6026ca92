"""tools/curriculum_world.py: the table's rows are what its models score, and nothing runs twice."""

import json
import re

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
    assert curriculum_world.main(line) == 0
    told = capsys.readouterr().out
    known = json.loads((tmp_path / "run" / curriculum_world.NAME).read_text())
    found = {
        name: [known[f"{seed} {name}"]["short"] for seed in (3, 4)] for name in ("list", "short")
    }
    for name, labels in (("list", 24), ("short", 16)):
        mean, spread = 100 * np.mean(found[name]), 100 * np.std(found[name], ddof=1)
        assert f"| {name}, all of it | {labels} | {mean:.1f} ± {spread:.1f} |" in told
    assert {"MSA: list", "MSA: list, short", "list, SSA", "short, SSA"} <= set(
        re.findall(r"^\| ([^|]*) \| \d", told, re.MULTILINE)
    )
    assert page.read_text().startswith("before\n") and "| MSA: list, short |" in page.read_text()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert curriculum_world.main(line) == 0
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert {path for path in again if again[path] != files.get(path)} <= {tmp_path / "run"}
    assert [row for row in capsys.readouterr().out.splitlines() if row.startswith("| ")] == [
        row for row in told.splitlines() if row.startswith("| ")
    ]


def test_an_unknown_own_source(tmp_path):
    with pytest.raises(TTDError, match="--own ttd: there are list, short"):
        curriculum_world.main(command(tmp_path, "--own", "ttd"))
