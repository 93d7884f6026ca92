"""The worst share is dropped, counted by hand; lists are in input order and repeatable."""

import json

import numpy as np
import prune_pairs
import pytest

from core.errors import TTDError
from core.tags.pruning import HEADER, histogram, worst

SCORES = [0.5, 0.1, 0.3, 0.1, 0.9, 0.3, 0.3, 0.8, 0.2, 0.7]


def write(folder, name="cc3m_train@TCL_224_[1.0]", scores=SCORES, finished=True):
    """A score file as score_captions.py leaves it; ids are not in the order of their names."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text(
        "".join(
            json.dumps({"index": i, "id": f"p{9 - i}", "score": s}) + "\n"
            for i, s in enumerate(scores)
        )
    )
    (folder / f"{name}.meta.json").write_text(
        json.dumps(
            {
                "finished": finished,
                "bytes": path.stat().st_size,
                "counts": {"skipped": 3},
                "identity": {"data": "../cc3m/train", "arch": "TCL"},
            }
        )
    )
    return path


@pytest.fixture
def root(tmp_path):
    (tmp_path / "cc3m" / "train").mkdir(parents=True)
    return tmp_path


def run(root, *more):
    return prune_pairs.main(
        ["--root", str(root), "--data", "cc3m", "--arch", "TCL", "--out", str(root / "out"), *more]
    )


def test_the_list_names_what_is_kept_in_input_order(root, capsys):
    write(root / "out")
    assert run(root, "--domain", "train", "--drop", "0.4") == 0
    lines = (root / "out" / "cc3m_train@TCL_224_[1.0]@drop=0.4.txt").read_text().splitlines()
    # worst first: 0.1 (1), 0.1 (3), 0.2 (8), then one of the three 0.3: the last of them (6)
    assert lines[1:] == [f"p{9 - i}" for i in (0, 2, 4, 5, 7, 9)]
    assert lines[0] == (
        f"{HEADER}: data=../cc3m/train arch=TCL drop=0.4 scored=10 kept=6 dropped=4 skipped=3 "
        "threshold=0.300000"
    )
    said = capsys.readouterr().out
    assert "6 of 10 pairs kept, 4 dropped" in said and "scores from 0.100 |" in said


def test_doing_it_again_changes_nothing(root):
    write(root / "out")
    run(root)
    path = root / "out" / "cc3m_train@TCL_224_[1.0]@drop=0.2.txt"
    before = path.read_bytes()
    run(root)
    assert path.read_bytes() == before and len(before.splitlines()) == 9
    assert not [p for p in (root / "out").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("drop", [0, 0.1, 0.29, 0.3, 0.999])
@pytest.mark.parametrize("count", [1, 2, 10, 100, 1000])
def test_the_share_against_sorting_by_hand(drop, count):
    scores = np.random.default_rng(count).integers(0, 20, count) / 20
    flags = worst(scores, drop)
    order = sorted(range(count), key=lambda i: (scores[i], -i))
    assert set(np.flatnonzero(flags)) == set(order[: (round(drop * 1000) * count) // 1000])


def test_what_cannot_be_pruned(root):
    with pytest.raises(TTDError, match="has no scores cc3m_train@TCL_"):
        run(root)
    path = write(root / "out", finished=False)
    with pytest.raises(TTDError, match="not complete"):
        run(root)
    write(root / "out", scores=[])
    with pytest.raises(TTDError, match="no pair was scored"):
        run(root)
    write(root / "out", scores=[0.1, float("nan")])
    with pytest.raises(TTDError, match="1 of 2 scores are no numbers"):
        run(root)
    for drop in ("1", "-0.1", "nan"):
        with pytest.raises(TTDError, match="from 0 to below 1"):
            run(root, f"--drop={drop}")
    write(root / "out")
    other = write(root / "out", "cc3m_train@TCL_224_[1.0]@hflip")
    with pytest.raises(TTDError, match="several scores.*--scores"):
        run(root)
    assert prune_pairs.main(["--scores", str(other)]) == 0
    path.write_text(path.read_text()[:-1] + " ")
    path.write_text("not json\n" + path.read_text().split("\n", 1)[1])
    meta = path.with_name(path.name.replace(".jsonl", ".meta.json"))
    meta.write_text(json.dumps({"finished": True, "bytes": path.stat().st_size}))
    with pytest.raises(TTDError, match=":1: not a line of scores"):
        prune_pairs.main(["--scores", str(path)])


def test_ids_of_several_lines_cannot_be_listed(root):
    path = write(root / "out")
    path.write_text(path.read_text().replace('"p9"', '"p\\n9"'))
    meta = path.with_name(path.name.replace(".jsonl", ".meta.json"))
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "bytes": path.stat().st_size}))
    with pytest.raises(TTDError, match="line break"):
        run(root)
    assert not list((root / "out").glob("*.txt"))


def test_histogram_of_equal_scores_is_drawn_too():
    assert histogram(np.full(5, 0.25), 0.25).startswith("scores from 0.250 |")
