"""A run is not resumed on other captions or images than it was begun with."""

from contextlib import closing

import pytest

from core.data.inputs.table import Inputs
from core.errors import TTDError
from core.training.storage.run_dir import RunFolder, RunIdentity, unreadable


def identity(folder, text="a dog", trust=False):
    image = folder / "a.png"
    return RunIdentity(
        "x", ".pt", {"lr": 1}, {}, Inputs([("a", text, "a.png", image)], trust=trust)
    )


def begin(folder, **options):
    overwrite = options.pop("overwrite", False)
    with closing(RunFolder(folder / "run", identity(folder, **options), overwrite)):
        pass


def test_changed_captions_and_images_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"one")
    begin(tmp_path)
    begin(tmp_path)
    with pytest.raises(TTDError, match="captions changed: 1 of 1, the first a"):
        begin(tmp_path, text="a cat")
    (tmp_path / "a.png").write_bytes(b"other")
    with pytest.raises(TTDError, match=r"files changed: 1 of 1, the first a\.png"):
        begin(tmp_path)
    begin(tmp_path, trust=True)
    with pytest.raises(TTDError, match="files changed"):  # trust does not make them the run's
        begin(tmp_path)
    begin(tmp_path, overwrite=True)
    begin(tmp_path)


def test_what_could_not_be_read_is_known(tmp_path):
    assert unreadable(tmp_path) == []
    lines = '{"index": 0, "id": "a", "reason": "away", "retry": true}\n{"index": 1, "id": "b"}\n'
    (tmp_path / "skipped.jsonl").write_text(lines)
    assert unreadable(tmp_path) == ["a"]
