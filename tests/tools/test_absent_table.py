"""tools/absent_table.py: its cells are what producing tags says, counted by the world's truth."""

import json

import pytest
from paths import ROOT

import produce_tags_from_text
from core.errors import TTDError
from core.world.objects import NOUNS
from core.world.writer import WorldConfig, make_world

LORA = str(ROOT / "weights" / "tiny+TTD.safetensors")


@pytest.fixture
def absent_table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import absent_table

    return absent_table


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    make_world(root, WorldConfig(train=12, val=16, seed=4))
    return root


def counted(world, out, *options):
    """The four numbers from a result of produce_tags_from_text.py."""
    asked = ["--root", str(world / "cc3m_for_evaluation"), "--scorer", "pixel", "--device", "cpu"]
    produce_tags_from_text.main([*asked, "--out", str(out), *options])
    flags = []  # noun, true, kept
    for line in next(out.glob("*.jsonl")).read_text().splitlines():
        row = json.loads(line)
        truth = world / f"cc3m_for_evaluation/json_refined/{row['id']}.json"
        tags = json.loads(truth.read_text())["tags"]
        for word in row["words"]:
            name = word["word"].casefold()
            flags.append((name in NOUNS, name in tags, word["selected"]))

    def share(noun, true):
        kept = [k for n, t, k in flags if t == true and (noun is None or n == noun)]
        return f"{100 * sum(kept) / len(kept):.1f}", len(kept)

    right, kept = sum(t and k for _, t, k in flags), sum(k for *_, k in flags)
    f1 = 2 * right / (kept + sum(t for _, t, _ in flags))
    absent, count = share(True, False)
    return [f"{absent} (of {count})", share(True, True)[0], share(None, True)[0], f"{100 * f1:.1f}"]


def test_the_table_says_what_the_script_keeps(absent_table, world, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("\n".join(["before", *absent_table.MARKS, "after"]))
    command = ["--root", str(world), "--lora", LORA, "--device", "cpu", "--update", str(page)]
    absent_table.main(command)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    head, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert head[0] == "first 16 held-out images, percent" and head[3] == "tiny+TTD"
    for column, lora in ((1, []), (3, ["--lora", LORA])):
        cut = ["--min-score", head[column + 1].split()[-1]]
        for place, options in ((column, lora), (column + 1, [*lora, *cut])):
            out = tmp_path / f"out{place}"
            assert [row[place] for row in rows] == counted(world, out, *options)


def test_the_adapter_must_be_named(absent_table, world):
    with pytest.raises(TTDError, match="--lora is missing"):
        absent_table.main(["--root", str(world)])
