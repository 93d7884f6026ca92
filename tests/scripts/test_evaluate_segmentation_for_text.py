"""evaluate_segmentation_for_text.py as it is called, against counting by definition."""

import csv
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from small_predictions import CAPTIONS, HEIGHT, WIDTH, make_captions, save

import evaluate_segmentation_for_text
from core.data.labels.datasets import open_caption_set
from core.errors import TTDError
from core.evaluation.captions import sweep
from core.masks.results import save_scores


@pytest.fixture
def captions(tmp_path):
    """ROOT with 6 captions, one of them without tags, and results_caption/NAME with scores."""
    return make_captions(tmp_path, 0)


def shares_by_definition(captions, threshold=None):
    """Means of IoU, FPR, FNR over the captions with tags, and pooled."""
    counts = []
    base, folder = captions / "cc3m_for_evaluation", captions / "results_caption" / CAPTIONS
    for number in range(5):
        masks = [
            np.asarray(Image.open(path)) > 0
            for path in (base / f"mask_using_HQ-SAM/{number}").iterdir()
        ]
        truth = sum(mask.astype(int) for mask in masks) > 0
        prediction = np.asarray(Image.open(folder / f"{number}.png")) > 0
        if threshold is not None:
            prediction = np.load(folder / f"scores/{number}.npz")["maps"][0].astype(
                np.float32
            ) > np.float32(threshold)
        counts.append(
            [(truth & prediction).sum(), (prediction > truth).sum(), (truth > prediction).sum()]
        )
    counts = np.array(counts)
    return (counts / counts.sum(1, keepdims=True)).mean(0), counts.sum(0) / counts.sum()


def union(captions, number):
    """The true foreground of a caption: where any of its masks is not 0."""
    folder = captions / f"cc3m_for_evaluation/mask_using_HQ-SAM/{number}"
    return np.any([np.asarray(Image.open(path)) > 0 for path in folder.iterdir()], axis=0)


def evaluate_text(place, *more, **replaced):
    options = {
        "--pred": f"{place}/results_caption/{CAPTIONS}/",
        "--tag": "TCL+TTD",
        "--root": str(place),
    } | replaced
    given = [pair for pair in options.items() if pair[1]]
    return evaluate_segmentation_for_text.main([*itertools.chain(*given), *more])


def test_caption_line_by_definition(captions, capsys):
    assert (
        evaluate_text(
            captions, "--json", str(captions / "s.json"), "--csv", str(captions / "s.csv")
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    (iou, fpr, fnr), pooled = shares_by_definition(captions)
    assert lines[0] == f"TCL+TTD | Caption IoU: {100 * iou:.1f}%, mFPR: {fpr:.3f}, mFNR: {fnr:.3f}"
    content = json.loads((captions / "s.json").read_text())
    assert [content[key] for key in ("iou", "fpr", "fnr")] == pytest.approx([iou, fpr, fnr])
    rows = content["rows"]
    assert list(rows["pooled over pixels"].values()) == pytest.approx(pooled)
    assert (
        rows["all background"] == {"iou": 0, "fpr": 0, "fnr": 1}
        and rows["all foreground"]["fnr"] == 0
    )
    assert (
        "5 scored" in "".join(lines) and len(list(csv.DictReader((captions / "s.csv").open()))) == 5
    )


def test_the_published_caption_command_as_it_stands(captions):
    (captions / "here").mkdir()
    command = [
        sys.executable,
        str(ROOT / "evaluate_segmentation_for_text.py"),
        "--pred",
        f"../results_caption/{CAPTIONS}/",
        "--tag",
        "TCL+TTD",
    ]
    done = subprocess.run(command, cwd=captions / "here", capture_output=True, text=True)
    (iou, fpr, fnr), _ = shares_by_definition(captions)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"TCL+TTD | Caption IoU: {100 * iou:.1f}%, mFPR: {fpr:.3f}, mFNR: {fnr:.3f}\n"
    )


def test_the_threshold_of_a_separate_split(captions, tmp_path, capsys):
    other = make_captions(tmp_path / "dev", 1)
    tune = ["--tune", f"{other}/results_caption/{CAPTIONS}", "--tune-root", str(other)]
    evaluate_text(captions, *tune, "--json", str(captions / "s.json"))
    thresholds = [round(0.01 * step, 2) for step in range(1, 100)]
    best = max(thresholds, key=lambda t: (shares_by_definition(other, t)[0][0], -t))
    rows = json.loads((captions / "s.json").read_text())["rows"]
    row = next(row for name, row in rows.items() if f"at bg {best:.2f}" in name)
    assert list(row.values()) == pytest.approx(shares_by_definition(captions, best)[0])
    with pytest.raises(TTDError, match="separate one"):
        evaluate_text(captions, "--tune", f"{captions}/results_caption/{CAPTIONS}")


def test_wrong_caption_masks(captions, capsys):
    folder = captions / "results_caption" / CAPTIONS
    (folder / "0.png").unlink()
    save(folder / "1.png", np.zeros((3, 4), np.uint8))
    (folder / "2.png").write_bytes(b"x")
    save(folder / "extra.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(
        TTDError,
        match=r"1 missing \(0\), 1 extra \(extra\), 1 unreadable .*1 wrong-sized \(1: 4x3 f",
    ):
        evaluate_text(captions)
    assert evaluate_text(captions, "--allow-missing") == 0
    captured = capsys.readouterr()
    assert "2 scored" in captured.out and "left out" in captured.err


@pytest.mark.parametrize(
    ("kept", "out_of_range"),
    [
        ([0, 1], ""),
        ([0, 255], ""),
        ([0, 7, 255], "3: value 7, but"),
        ([0, 128], "3: value 128, but"),
    ],
)
def test_values_of_caption_masks(captions, kept, out_of_range):
    save(
        captions / "results_caption" / CAPTIONS / "3.png",
        np.resize(kept, (HEIGHT, WIDTH)).astype(np.uint8),
    )
    if out_of_range:
        with pytest.raises(
            TTDError, match=rf"1 out of range \({out_of_range} a mask of a caption has 0 and 255\)"
        ):
            evaluate_text(captions)
        return
    whole = captions / "cc3m_for_evaluation/mask_using_HQ-SAM/3/sun.png"
    save(whole, np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert evaluate_text(captions, "--json", str(captions / "s.json")) == 0
    stored = json.loads((captions / "s.json").read_text())
    assert stored["captions"]["3"] == 0.5  # every other pixel is not 0
    share = np.mean([union(captions, number).mean() for number in range(5)])
    assert stored["rows"]["all foreground"]["iou"] == pytest.approx(share)


def test_the_map_of_a_caption_is_the_maximum_of_its_saved_maps(tmp_path):
    place = make_captions(tmp_path, 0)
    rng = np.random.default_rng(1)
    for number in range(5):
        maps = rng.random((3, HEIGHT, WIDTH)).astype(np.float16)
        path = place / "results_caption" / CAPTIONS / f"scores/{number}.npz"
        save_scores(path, maps, np.arange(3, dtype=np.int16), (HEIGHT, WIDTH))
    records = open_caption_set("CC3M", place)
    counts, _ = sweep(records, place / "results_caption" / CAPTIONS, (0.5, 0.9))
    for number in range(5):
        path = place / "results_caption" / CAPTIONS / f"scores/{number}.npz"
        highest, truth = np.load(path)["maps"].max(0), union(place, number)
        for row, threshold in zip(counts[number], (0.5, 0.9), strict=True):
            kept = highest.astype(np.float32) > np.float32(threshold)
            want = [(kept & truth).sum(), (kept > truth).sum(), (truth > kept).sum()]
            assert row.tolist() == want


def test_a_caption_that_is_the_whole_picture_is_counted(captions, capsys):
    save(
        captions / "cc3m_for_evaluation/mask_using_HQ-SAM/0/dog.png",
        np.full((HEIGHT, WIDTH), 255, np.uint8),
    )
    evaluate_text(captions, "--gallery", "1")
    output = capsys.readouterr().out
    assert "1 of them with a truth that is the whole image" in output
    assert Image.open(captions / f"results_caption/{CAPTIONS}.gallery.png").size[0] > 600


def test_label_maps_are_sent_to_the_other_evaluator(captions):
    protocol = {"identity": {"classes": "x"}}
    (captions / "results_caption" / CAPTIONS / "protocol.json").write_text(json.dumps(protocol))
    with pytest.raises(TTDError, match="classes; score them with evaluate_segmentation.py"):
        evaluate_text(captions)
