"""CLIP-VG's files of reliability, read back by a reader that is not ours."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.data.grounding import Phrase, read_rows
from core.data.grounding_sets import grounding_set
from core.errors import TTDError
from core.grounding.curriculum.publish import read_separate, write_published

VALUES = np.array([0.0, 0.1, 0.3, 0.4, 0.45, 1.0])


def phrases(count=6):
    return [
        Phrase(i, str(i), Path(f"{i}.jpg"), f"{i}.jpg", f"dog {i}", (10.0, 20.0, 15.0 + i, 40.0))
        for i in range(count)
    ]


def test_counts_are_strict_and_add_up(tmp_path):
    counts = write_published(tmp_path, "unc", phrases(), VALUES)
    by_step = [counts[f"unc_train_pseudo_refine_0_{i}.pth"] for i in range(10)]
    assert by_step == [5, 4, 4, 3, 2, 1, 1, 1, 1, 1]
    assert counts["unc_train_pseudo_refine_1_0.pth"] == 1
    assert counts["unc_train_pseudo_bad_label_0_0.pth"] == 1
    assert counts["unc_train_pseudo_bad_label_0_4.pth"] == 3
    assert by_step[0] + counts["unc_train_pseudo_bad_label_0_0.pth"] == len(VALUES)


def test_records_have_the_released_form(tmp_path):
    write_published(tmp_path, "unc", phrases(), VALUES)
    write_published(tmp_path, "flickr", phrases(), VALUES)
    rows = torch.load(tmp_path / "unc_train_pseudo_refine_0_5.pth", weights_only=True)
    placeholder = "useless placeholder"
    assert rows == [["5.jpg", placeholder, [10.0, 20.0, 10.0, 20.0], "dog 5", placeholder]]
    rows = torch.load(tmp_path / "flickr_train_pseudo_refine_0_5.pth", weights_only=True)
    assert rows == [["5.jpg", [10.0, 20.0, 20.0, 40.0], "dog 5"]]
    rows = torch.load(tmp_path / "unc_train_pseudo_bad_label_0_0.pth", weights_only=True)
    assert rows[0][5] == 0 and len(rows[0]) == 6


def test_our_reader_takes_them_back(tmp_path):
    write_published(tmp_path, "unc", phrases(), VALUES)
    file = tmp_path / "unc_train_pseudo_refine_0_4.pth"
    rows = list(read_rows(file, grounding_set("unc")))
    assert [(row["image"], row["box"]) for row in rows] == [
        ("4.jpg", [10, 20, 19, 40]), ("5.jpg", [10, 20, 20, 40]),
    ]  # fmt: skip


def test_released_names_of_separate_sources(tmp_path):
    for name in ("2_unc+_train_pseudo_relation_0_5.pth", "1_unc+_train_pseudo_template_0_4.pth",
                 "1_unc_train_pseudo_template_0_5.pth", "notes.txt"):  # fmt: skip
        (tmp_path / name).write_bytes(b"")
    found = [(item.number, item.source, item.threshold) for item in read_separate(tmp_path, "unc+")]
    assert found == [(1, "template", 0.4), (2, "relation", 0.5)]
    with pytest.raises(TTDError, match="gref"):
        read_separate(tmp_path, "gref")


def test_another_number_of_values_is_refused(tmp_path):
    with pytest.raises(TTDError, match="5 reliabilities for 6 labels"):
        write_published(tmp_path, "unc", phrases(), VALUES[:5])
