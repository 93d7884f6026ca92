"""Folders of predictions: which set they are of, and how problems are named."""

from pathlib import Path

import pytest
from small_predictions import NAME

from core.errors import TTDError
from core.evaluation.predictions import Problems, data_of, find_folder
from core.evaluation.report import means_table, published_line


def test_published_line_is_exact():
    assert published_line("TCL+TTD@VOC2012", "mIoU", (0.6111, 0.1849, 0.2040)) == (
        "TCL+TTD@VOC2012 | mIoU: 61.1%, mFPR: 0.185, mFNR: 0.204"
    )
    assert published_line("TCL+TTD", "Caption IoU", (0.6551, 0.163, 0.1819)) == (
        "TCL+TTD | Caption IoU: 65.5%, mFPR: 0.163, mFNR: 0.182"
    )


def test_finding_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TTDError, match="none in results/ either"):
        find_folder("nowhere/x", "results")
    (tmp_path / "results/a@b@c").mkdir(parents=True)
    with pytest.raises(TTDError, match="results/ has a@b@c"):
        find_folder("nowhere/x", "results")
    assert data_of(Path(f"results/{NAME}")) == "VOC2012" and data_of(Path("results/mine")) is None


def test_problems_line():
    problems = Problems()
    assert problems.line() == ""
    for name in "edcba":
        problems.add("missing", name)
    assert problems.line() == "5 missing (a, b, c, ...)"


def test_tables_align():
    lines = means_table(
        {"x": (0.5, 0.25, 0.25), "longer name": (1.0, 0.0, 0.0)}, "mIoU"
    ).splitlines()
    assert len({len(line) for line in lines}) == 1
