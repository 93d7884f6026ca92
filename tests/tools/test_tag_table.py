"""tools/tag_table.py: its cells are what producing and evaluating tags say."""

import json
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

import evaluate_classification
import produce_tags_from_text


@pytest.fixture
def tag_table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import tag_table

    return tag_table


def make_set(root, seed):
    random, words = np.random.default_rng(seed), ["red", "dog", "the", "cat", "a", "with", "boat"]
    for folder in ("image", "json_refined"):
        (root / folder).mkdir(parents=True)
    for k in range(12):
        caption = [str(word) for word in random.choice(words, int(random.integers(1, 7)))]
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
            root / f"image/{k}.png"
        )
        tags = [word for word in set(caption) if random.random() < 0.5]
        (root / f"json_refined/{k}.json").write_text(
            json.dumps({"text": " ".join(caption), "tags": tags})
        )
    return str(root)


def test_the_table_says_what_the_two_scripts_say(tag_table, small_clip, tmp_path):
    root, dev = make_set(tmp_path / "a", 0), make_set(tmp_path / "b", 1)
    model = ["--arch", f"local-dir:{small_clip}", "--device", "cpu"]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tag_table.MARKS[0]}\nold\n{tag_table.MARKS[1]}\nafter\n")
    tag_table.main([*model, "--root", root, "--dev", dev, "--update", str(page)])
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after") and "old" not in lines
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
    cells = {tuple(row[1:4]): row for row in rows}
    for k, stop in enumerate(([], ["--stopwords"])):
        out = str(tmp_path / f"out{k}")
        produce_tags_from_text.main([*model, "--root", root, "--out", out, "--fixed", *stop])
        names, found_in = (
            sorted(path.name for path in Path(out).glob("*.jsonl")),
            str(tmp_path / "x.json"),
        )
        evaluate_classification.main(
            ["--root", root, "--out", out, "--json", found_in, "--arch", *names]
        )
        rows = json.loads(Path(found_in).read_text())["rows"]
        for row, best in zip(rows[0:6:2], rows[1:6:2], strict=True):
            scorer = row["name"].split("@")[1]
            for cut, wanted in (("0.5", row), ("best", best)):
                found = next(
                    row
                    for key, row in cells.items()
                    if key[:2] == (scorer, "minmax") and cut in key[2]
                )
                percents = [
                    f"{100 * wanted[key]:.1f}" for key in ("precision", "recall", "accuracy", "f1")
                ]
                assert found[4 + 3 * k : 6 + 3 * k] == [" / ".join(percents[:3]), percents[3]]
                assert found[9] == f"{100 * row['average_precision']:.1f}"
