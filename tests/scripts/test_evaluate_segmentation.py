"""evaluate_segmentation.py as it is called, against loops over pixels."""

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from small_predictions import HEIGHT, NAME, WIDTH, draw, save

import evaluate_segmentation
from core.errors import TTDError
from core.evaluation import predictions


@pytest.fixture
def place(tmp_path):
    """ROOT/VOC2012 with 5 images, and results/NAME, right in about 7 of 10 blocks."""
    rng = np.random.default_rng(0)
    base, folder = tmp_path / "VOC2012" / "validation", tmp_path / "results" / NAME
    for number in range(5):
        truth = draw(rng, [0, 3, 15, 20][: 2 + number % 3])
        right = np.where(truth == 255, 0, truth)
        prediction = np.where(draw(rng, [0, 0, 1], 0) > 0, draw(rng, [0, 3, 7, 15], 0), right)
        save(base / "image" / f"p{number}.jpg", rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        save(base / "mask" / f"p{number}.png", truth)
        save(folder / f"p{number}.png", prediction.astype(np.uint8))
    (folder / "protocol.json").write_text(
        json.dumps({"identity": {"bg": 0.4, "pamr": True}, "run": "x"})
    )
    return tmp_path


def expected_line(place) -> str:
    """The published line from loops over pixels."""
    pairs = []
    for path in sorted((place / "results" / NAME).glob("p*.png")):
        truth = np.asarray(Image.open(place / "VOC2012/validation/mask" / path.name))
        pairs += [
            (t, p)
            for t, p in zip(
                truth.ravel().tolist(), np.asarray(Image.open(path)).ravel().tolist(), strict=True
            )
            if t != 255
        ]
    shares = []
    for label in range(21):
        tp = sum(t == p == label for t, p in pairs)
        fp, fn = sum(p == label != t for t, p in pairs), sum(t == label != p for t, p in pairs)
        if tp + fp + fn:
            shares.append((tp / (tp + fp + fn), fp / (tp + fp + fn), fn / (tp + fp + fn)))
    iou, fpr, fnr = np.mean(shares, axis=0)
    return f"TCL+TTD@VOC2012 | mIoU: {100 * iou:.1f}%, mFPR: {fpr:.3f}, mFNR: {fnr:.3f}"


def evaluate(place, *more, **replaced):
    options = {
        "--data": "VOC2012",
        "--pred": f"{place}/results/{NAME}/",
        "--tag": "TCL+TTD@VOC2012",
        "--root": str(place),
    } | replaced
    given = [pair for pair in options.items() if pair[1]]
    return evaluate_segmentation.main([*itertools.chain(*given), *more])


def test_the_published_command_as_it_stands(place, capsys):
    (place / "here").mkdir()
    command = [
        sys.executable,
        str(ROOT / "evaluate_segmentation.py"),
        "--data",
        "VOC2012",
        "--pred",
        f"../results/{NAME}/",
        "--tag",
        "TCL+TTD@VOC2012",
    ]  # --root is ../ when it is not given
    done = subprocess.run(command, cwd=place / "here", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == expected_line(place)


def test_everything_it_prints_and_writes(place, capsys):
    assert (
        evaluate(
            place, "--per-class", "--json", str(place / "o/s.json"), "--csv", str(place / "s.csv")
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == expected_line(place)
    assert lines[1] == 'protocol: {"bg": 0.4, "pamr": true}'
    assert "5 images" in lines[2] and "5 scored" in lines[2]
    for name in ("all foreground (", "all background", "random map", "tvmonitor"):
        assert any(line.startswith(name) for line in lines)
    absent = next(line for line in lines if line.startswith("sheep"))
    assert absent.split()[1:] == ["-", "-", "-", "0"]
    content = json.loads((place / "o/s.json").read_text())
    assert content["inputs"] is None  # these masks have no table of what they are of
    assert content["iou"] + content["fpr"] + content["fnr"] == pytest.approx(1)
    assert f"mIoU: {100 * content['iou']:.1f}%" in lines[0] and content["scored"] == 5
    assert (
        content["protocol"]["identity"] == {"bg": 0.4, "pamr": True}
        and len(content["classes"]) == 21
    )
    rows = list(csv.DictReader((place / "s.csv").open()))
    assert [row["name"] for row in rows][:2] == ["background", "aeroplane"] and len(rows) == 21
    counted = [float(row["iou"]) for row in rows if row["iou"]]
    assert np.mean(counted) == pytest.approx(content["iou"])


def test_the_set_is_in_the_folders_name(place, capsys):
    assert evaluate(place, **{"--data": None}) == 0
    assert capsys.readouterr().out.splitlines()[0] == expected_line(place)
    (place / "results" / NAME).rename(place / "results" / "mine")
    with pytest.raises(TTDError, match="add --data"):
        evaluate(place, **{"--data": None, "--pred": f"{place}/results/mine"})


@pytest.mark.parametrize("workers", ["1", "3"])
def test_workers_do_not_change_the_result(place, capsys, workers):
    evaluate(place, "--workers", workers)
    assert capsys.readouterr().out.splitlines()[0] == expected_line(place)


def test_chunks_of_images_are_added_up(place, capsys, monkeypatch):
    monkeypatch.setattr(predictions, "CHUNK", 2)
    evaluate(place)
    assert capsys.readouterr().out.splitlines()[0] == expected_line(place)


def spoil(place) -> Path:
    folder = place / "results" / NAME
    (folder / "p0.png").unlink()
    save(folder / "other.png", np.zeros((3, 3), np.uint8))
    save(folder / "p1.png", np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    save(folder / "p2.png", np.full((HEIGHT, WIDTH), 77, np.uint8))
    (folder / "p3.png").write_bytes((folder / "p3.png").read_bytes()[:60])
    return folder


def test_wrong_predictions_are_counted_and_named(place):
    spoil(place)
    with pytest.raises(TTDError) as caught:
        evaluate(place)
    line = str(caught.value)
    for part in (
        "1 missing (p0)",
        "1 extra (other)",
        "1 unreadable (p3: ",
        "1 wrong-sized (p1: 31x24 for 30x24)",
        "1 out of range (p2: label 77, but VOC2012 has 0-20 and 255 (ignored))",
        "--allow-missing",
    ):
        assert part in line
    assert "\n" not in line


def test_allow_missing_leaves_them_out_and_says_so(place, capsys):
    folder = spoil(place)
    assert evaluate(place, "--allow-missing", "--json", str(place / "s.json")) == 0
    captured = capsys.readouterr()
    assert "left out: 1 missing (p0)" in captured.err and "1 scored" in captured.out
    left = json.loads((place / "s.json").read_text())["left_out"]
    assert left == {"missing": 1, "extra": 1, "unreadable": 1, "wrong-sized": 1, "out of range": 1}
    for name in ("p1", "p2", "p3", "other"):
        (folder / f"{name}.png").unlink()
    assert captured.out.splitlines()[0] == expected_line(place)  # of p4 alone


def test_exit_code_2_and_one_line(place):
    spoil(place)
    command = [
        sys.executable,
        str(ROOT / "evaluate_segmentation.py"),
        "--data",
        "VOC2012",
        "--root",
        str(place),
        "--pred",
        f"{place}/results/{NAME}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_wrong_folders(place):
    with pytest.raises(TTDError, match="no such folder.*results/ has TCL@VOC2012"):
        evaluate(place, **{"--pred": f"{place}/results/nothing"})
    (place / "empty").mkdir()
    with pytest.raises(TTDError, match="no ID.png"):
        evaluate(place, **{"--pred": f"{place}/empty"})
    save(place / "strange" / "q.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(
        TTDError, match=r"none of the 1 masks \(q, ...\) is of the 5 images.*--data"
    ):
        evaluate(place, "--allow-missing", **{"--pred": f"{place}/strange"})
    save(place / "VOC2012/validation/mask/p3.png", np.full((HEIGHT, WIDTH), 60, np.uint8))
    with pytest.raises(TTDError, match="mask/p3.png: label 60"):  # wrong truth is never left out
        evaluate(place, "--allow-missing")


def test_own_set_from_yaml(place, capsys):
    (place / "mine.yaml").write_text(
        "images: VOC2012/validation/image\nmasks: VOC2012/validation/mask\nbackground: 0\n"
        "classes: [" + ", ".join(f"c{k}" for k in range(20)) + "]\n"
    )
    assert evaluate(place, **{"--data": f"{place}/mine.yaml", "--root": "/nowhere"}) == 0
    assert capsys.readouterr().out.splitlines()[0] == expected_line(place)


def test_gallery_lies_beside_the_folder(place, capsys):
    before = sorted((place / "results" / NAME).iterdir())
    evaluate(place, "--gallery", "1")
    path = place / "results" / f"{NAME}.gallery.png"
    assert (
        str(path) in capsys.readouterr().out
        and sorted((place / "results" / NAME).iterdir()) == before
    )
    picture = np.asarray(Image.open(path))
    assert picture.ndim == 3 and picture.shape[0] > 2 * HEIGHT


def test_masks_of_captions_are_sent_to_the_other_evaluator(place):
    protocol = {"identity": {"tags": "caption"}}
    (place / "results" / NAME / "protocol.json").write_text(json.dumps(protocol))
    with pytest.raises(TTDError, match="evaluate_segmentation_for_text.py"):
        evaluate(place)
