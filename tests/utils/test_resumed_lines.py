"""A log that is cut anywhere goes on after its last whole line."""

import json

import pytest

from core.errors import TTDError
from core.utils.resumed_lines import ResumedLines


def test_a_cut_anywhere_loses_at_most_the_last_item(tmp_path):
    path = tmp_path / "a" / "log.part"
    with ResumedLines(path, {"model": "x", "sizes": (1, 2)}) as log:
        for k in range(3):
            assert log.add(f"item {k}", {"value": k}) == {"value": k}
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with ResumedLines(path, {"model": "x", "sizes": (1, 2)}) as log:
            kept = [line for line in whole[:cut].split(b"\n")[1:-1] if line]
            assert list(log.done) == [json.loads(line)[0] for line in kept]
            for k in range(3):
                if f"item {k}" not in log.done:
                    log.add(f"item {k}", {"value": k})
        assert path.read_bytes() == whole
    with ResumedLines(path, {"model": "x", "sizes": (1, 2)}) as log:
        log.finish()
    assert not path.exists()


def test_other_settings_and_other_runs(tmp_path):
    path = tmp_path / "log.part"
    with ResumedLines(path, {"model": "x"}) as log:
        log.add("a", 1)
        with pytest.raises(TTDError, match="another run"):
            ResumedLines(path, {"model": "x"})
    with pytest.raises(TTDError, match='model: "x", not "y".*--overwrite'):
        ResumedLines(path, {"model": "y"})
    with ResumedLines(path, {"model": "y"}, overwrite=True) as log:
        assert log.done == {}
