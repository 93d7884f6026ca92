"""Records that could not be read: listed, tried again, and put where they belong."""

import json
from contextlib import closing

import pytest

from core.data.records import Skipped
from core.tags import writer as module
from core.tags.results import ResultPaths, is_finished
from core.tags.writer import TagWriter, of_batches
from core.utils.files import read_json

META = {"identity": {"root": "set", "batch": 4}}
SCORERS = ("pixel", "image")
LOST = {2, 5, 6, 17}  # of 18 records in batches of 4
UNUSABLE = {1, 7, 12, 13, 14, 15}


def paths(folder):
    return {name: ResultPaths.of(folder, f"x@{name}") for name in SCORERS}


def line(index, scorer):
    return json.dumps({"id": index, "text": f"{scorer} \u2028 é"}, ensure_ascii=False) + "\n"


def batch_of(number, lost):
    rows = range(4 * number, min(18, 4 * number + 4))
    skipped = [Skipped(i, f"id{i}", "bad") for i in rows if i in UNUSABLE]
    skipped += [Skipped(i, f"id{i}", "away", True) for i in rows if i in lost]
    usable = [i for i in rows if i not in UNUSABLE and i not in lost]
    return {name: [line(i, name) for i in usable] for name in SCORERS}, skipped


def write(folder, lost):
    with closing(TagWriter(paths(folder), META, 4)) as writer:
        again = [(k, *batch_of(k, lost)) for k in writer.to_mend]
        writer.mend((k, lambda lines=lines: lines, skipped) for k, lines, skipped in again)
        for number in range(writer.done // 4, 5):
            writer.write(*batch_of(number, lost))
        writer.finish()
        return writer.unreadable


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if "meta" not in path.name}


def test_the_next_run_completes_the_result_to_the_byte(tmp_path):
    write(tmp_path / "whole", set())
    assert sorted(write(tmp_path / "x", LOST)) == sorted(LOST)
    assert not any(is_finished(path, META["identity"]) for path in paths(tmp_path / "x").values())
    assert read_json(paths(tmp_path / "x")["pixel"].meta)["unreadable"] == len(LOST)
    assert sorted(write(tmp_path / "x", {6, 17})) == [6, 17]  # some are back
    assert write(tmp_path / "x", set()) == {}
    assert files(tmp_path / "x") == files(tmp_path / "whole")
    assert all(is_finished(path, META["identity"]) for path in paths(tmp_path / "x").values())


def test_only_what_could_not_be_read_says_so(tmp_path):
    write(tmp_path, LOST)
    rows = [json.loads(text) for text in paths(tmp_path)["pixel"].skipped.open()]
    assert {row["index"] for row in rows if row.get("retry")} == LOST
    assert {row["index"] for row in rows if "retry" not in row} == UNUSABLE


@pytest.mark.parametrize("stop", range(4))
def test_a_run_killed_while_it_mends_ends_with_the_same_bytes(tmp_path, monkeypatch, stop):
    write(tmp_path / "whole", set())
    write(tmp_path / "x", LOST)
    calls = iter(range(100))

    def killed(work):
        def call(*args):
            if next(calls) == stop:
                raise KeyboardInterrupt
            return work(*args)

        return call

    monkeypatch.setattr(module, "_splice", killed(module._splice))
    monkeypatch.setattr(module, "_replace_skipped", killed(module._replace_skipped))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x", set())
    monkeypatch.undo()
    assert write(tmp_path / "x", set()) == {}
    assert files(tmp_path / "x") == files(tmp_path / "whole")


def test_what_is_still_away_is_not_computed_again(tmp_path):
    write(tmp_path, LOST)
    with closing(TagWriter(paths(tmp_path), META, 4)) as writer:
        assert writer.to_mend == [0, 1]  # the last batch is not whole: it is made as any other
        same = [(k, None, batch_of(k, LOST)[1]) for k in writer.to_mend]
        writer.mend(same)  # None cannot be called
        assert sorted(writer.unreadable) == sorted(LOST - {17})


def test_nothing_usable_is_not_finished(tmp_path):
    with closing(TagWriter(paths(tmp_path), META, 4)) as writer:
        writer.write({name: [] for name in SCORERS}, [Skipped(0, "a", "bad")])
        writer.finish()
    assert not is_finished(paths(tmp_path)["pixel"], META["identity"])


def test_items_of_batches():
    assert list(of_batches(range(18), [1, 4], 4)) == [4, 5, 6, 7, 16, 17]
    assert list(of_batches(range(18), [], 4)) == []
