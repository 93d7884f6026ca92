"""train_curriculum.py from the command line: what it says, leaves, resumes and refuses."""

import json
import re

import pytest
from PIL import Image
from small_grounding import write_backbone, write_phrases

import train_curriculum
from core.errors import TTDError
from core.grounding.curriculum.reliability import read_table

SMALL = ["--set", "layers=1", "hidden=32", "heads=2", "feedforward=32", "stall_percent=0"]


@pytest.fixture(scope="module")
def arch(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    first = write_phrases(folder, 24, seed=0)
    short = folder / "short.jsonl"
    rows = [json.loads(line) for line in first.open()]
    short.write_text("".join(json.dumps(row) + "\n" for row in rows[:16]))
    return first, short


def command(arch, out, sources, *more):
    line = ["--sources", *map(str, sources), "--out", str(out), "--arch", arch, "--device", "cpu"]
    line += ["--steps", "2", "--batch", "4", "--lr", "1e-3", "--fewest", "4", "--delta", "0.25"]
    return [*line, *SMALL, *more]


@pytest.mark.slow
def test_a_whole_curriculum_then_again(arch, lists, tmp_path, capsys):
    first, short = lists
    out = tmp_path / "run"
    line = command(arch, out, [first, short], "--val", str(first))
    assert train_curriculum.main(line) == 0
    told = capsys.readouterr().out
    least, most, done = map(int, re.search(r"(\d+) to (\d+) trainings, (\d+) done", told).groups())
    assert (least, most, done) == (2 * (1 + 2 + 2), 2 * (1 + 2 + 3), 0)
    assert "list: 24 labels, 1.00 things a phrase" in told and "(annotated)" in told
    state = json.loads((out / "curriculum_state.json").read_text())
    assert least <= len(state["done"]) <= most and {"list", "short"} <= state["done"].keys()
    for file in ("searches.png", "reliability_list.png", "reliability_short.png"):
        assert Image.open(out / file).size[0] > 300
    manifest = json.loads((out / "manifest.json").read_text())
    rows = [json.loads(row) for row in (out / "pseudo_labels.jsonl").open()]
    assert len(rows) == manifest["labels"]
    for row in manifest["sources"]:  # the counts are those of the tables
        (table,) = out.glob(f"scores/{row['measurer']}-*__{row['source']}.jsonl")
        values = read_table(table, row["labels"]).reliability
        assert row["reliable"] == sum(value > row["threshold"] for value in values.tolist())
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert train_curriculum.main(line) == 0
    again = capsys.readouterr().out
    assert f"all {len(state['done'])} trainings done" in again
    assert again.splitlines()[-1] == told.splitlines()[-1]
    assert files == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_without_any_annotation_and_one_source(arch, lists, tmp_path, capsys):
    line = command(arch, tmp_path / "run", lists[:1], "--select-on", "pseudo", "--held-out", "0.3")
    assert train_curriculum.main([*line, "--publish", "unc", "--delta", "0.5"]) == 0
    assert "no annotation" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "run/published/list").iterdir()}
    assert "unc_train_pseudo_refine_0_5.pth" in names and len(names) == 13


def test_dry_run_trains_nothing(arch, lists, tmp_path, capsys):
    line = command(arch, tmp_path / "run", lists[:1], "--val", str(lists[0]), "--dry-run")
    assert train_curriculum.main(line) == 0
    assert "hours left" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_only_msa_leaves_sources_out():
    args = {"algorithm": None, "sources": ["a.jsonl"], "leave_out": True}
    with pytest.raises(TTDError, match="--leave-out is for msa"):
        train_curriculum.algorithm(args)
    assert train_curriculum.algorithm({**args, "sources": ["a.jsonl", "b.jsonl"]}) == "msa"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "--val FILE is missing"),
        (["--select-on", "pseudo", "--held-out", "2"], "held-out share"),
        (["--val", "VAL", "--start", "0.3"], "multiple of delta"),
        (["--val", "VAL", "--algorithm", "ssa"], "one source"),
        (["--val", "VAL", "--publish", "coco"], "unknown grounding set"),
        (["--val", "no.jsonl"], "no.jsonl"),
    ],
)
def test_what_cannot_be_is_one_line(arch, lists, tmp_path, more, says):
    more = [str(lists[0]) if item == "VAL" else item for item in more]
    with pytest.raises(TTDError, match=says) as caught:
        train_curriculum.main(command(arch, tmp_path / "run", lists, *more))
    assert "\n" not in str(caught.value)


def test_two_sources_of_one_name(arch, lists, tmp_path):
    other = tmp_path / "list.jsonl"
    other.write_bytes(lists[0].read_bytes())
    with pytest.raises(TTDError, match="two files are called list"):
        train_curriculum.main(
            command(arch, tmp_path / "run", [lists[0], other], "--val", str(lists[0]))
        )
