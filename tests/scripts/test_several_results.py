"""Evaluators on several results, on results of a part of the set, and how their tables show it."""

import csv
import json

import numpy as np
import pytest
from small_predictions import CAPTIONS, HEIGHT, NAME, WIDTH, draw, make_captions, save

import evaluate_classification
import evaluate_segmentation
import evaluate_segmentation_for_text
from core.errors import TTDError
from core.evaluation.report import means_table, protocol_line
from core.masks.protocol import protocol
from core.utils.shown import decimals


def labels(place, name, wrong, count=5, limit=None):
    """results/NAME of `count` of 5 images: the truth, but for `wrong` pixels of each."""
    rng = np.random.default_rng(7)
    for number in range(5):
        truth = draw(rng, [0, 3, 15], 0)
        base = place / "VOC2012" / "validation"
        save(base / "image" / f"p{number}.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        save(base / "mask" / f"p{number}.png", truth)
        if number < count:
            found = truth.copy()
            found.ravel()[:wrong] = np.where(found.ravel()[:wrong] == 0, 3, 0)
            save(place / "results" / name / f"p{number}.png", found)
    folder = place / "results" / name
    settings = {"arguments": {"data": "VOC2012", "limit": limit}}
    (folder / "protocol.json").write_text(json.dumps(settings))
    return folder


def evaluate(place, *folders, more=()):
    command = ["--root", str(place), "--pred", *map(str, folders), *more]
    return evaluate_segmentation.main(command)


def table_rows(text):
    """IoU by the name of the row, of the table that is printed."""
    lines = [line for line in text.splitlines() if line.rstrip()[-6:-5] == " " and "%  " in line]
    return {line.split("  ")[0].strip(): float(line.split("%")[0].split()[-1]) for line in lines}


def test_several_results_are_one_table(tmp_path, capsys):
    good, bad = labels(tmp_path, f"A@{NAME}", 5), labels(tmp_path, f"B@{NAME}", 200)
    alone = []
    for folder in (good, bad):
        evaluate(tmp_path, folder)
        alone.append(capsys.readouterr().out.splitlines()[0])
    files = ["--json", str(tmp_path / "s.json"), "--csv", str(tmp_path / "s.csv")]
    assert evaluate(tmp_path, good, bad, more=["--tag", "good", "bad", *files]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split(" | ")[1] for line in lines if " | mIoU" in line] == [
        line.split(" | ")[1] for line in alone
    ]
    rows = table_rows(out)
    assert rows["good"] > rows["bad"] and "all background" in rows
    results = json.loads((tmp_path / "s.json").read_text())["results"]
    assert [result["tag"] for result in results] == ["good", "bad"]
    assert f"{100 * results[1]['iou']:.1f}" == f"{rows['bad']:.1f}"
    read = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [row["result"] for row in read] == ["good"] * 21 + ["bad"] * 21


def test_a_result_of_a_part_is_scored_on_that_part_and_says_so(tmp_path, capsys):
    whole = labels(tmp_path, f"A@{NAME}", 30)
    part = labels(tmp_path, f"A@{NAME}@limit=3", 30, 3, 3)
    assert evaluate(tmp_path, part) == 0
    captured = capsys.readouterr()
    assert "3 scored; only the first 3 of the set (made with --limit)" in captured.out
    assert "left out" not in captured.err
    assert evaluate(tmp_path, whole, part) == 0  # the whole one on the same three
    lines = [line for line in capsys.readouterr().out.splitlines() if " | mIoU" in line]
    assert lines[0].split(" | ")[1] == lines[1].split(" | ")[1]
    (part / "p1.png").unlink()
    with pytest.raises(TTDError, match=r"1 missing \(p1\)"):  # still an error
        evaluate(tmp_path, part)


def test_results_that_cannot_be_compared_are_refused(tmp_path):
    first, second = labels(tmp_path, f"A@{NAME}", 0), labels(tmp_path, f"B@{NAME}", 0)
    with pytest.raises(TTDError, match="2 folders"):
        evaluate(tmp_path, first, second, more=["--tag", "one"])
    with pytest.raises(TTDError, match="named twice"):
        evaluate(tmp_path, first, f"{first}/")
    with pytest.raises(TTDError, match="two results of one name"):
        evaluate(tmp_path, first, second, more=["--tag", "same", "same"])
    (second / "p4.png").unlink()
    with pytest.raises(TTDError, match="not of the same images"):
        evaluate(tmp_path, first, second, more=["--allow-missing"])
    (second / "protocol.json").write_text('{"arguments": {"data": "World"}}')
    with pytest.raises(TTDError, match="different sets"):
        evaluate(tmp_path, first, second)


def test_folders_of_one_name_are_numbered(tmp_path, capsys):
    first, name = labels(tmp_path, f"A@{NAME}", 0), f"A@{NAME}"
    labels(tmp_path / "more", name, 100)
    assert evaluate(tmp_path, first, tmp_path / "more" / "results" / name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(f"{name} | mIoU: 100.0%")]
    assert [line for line in lines if line.startswith(f"{name} (2) | mIoU")]


def test_captions_of_several_results_and_of_a_part(tmp_path, capsys):
    make_captions(tmp_path, 0)
    folder = tmp_path / "results_caption" / CAPTIONS
    part = folder.with_name(f"{CAPTIONS}@limit=3")
    for number in range(3):
        save(part / f"{number}.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    (part / "protocol.json").write_text('{"arguments": {"limit": 3, "data": "CC3M"}}')
    command = ["--root", str(tmp_path), "--json", str(tmp_path / "s.json"), "--pred"]
    assert evaluate_segmentation_for_text.main([*command, str(folder), str(part)]) == 0
    out = capsys.readouterr().out
    assert out.count("| Caption IoU: ") == 2 and "3 scored" in out and "first 3 of" in out
    results = json.loads((tmp_path / "s.json").read_text())["results"]
    assert results[1]["iou"] == 0 and results[0]["iou"] > 0
    assert list(results[0]["captions"]) == ["0", "1", "2"]
    with pytest.raises(TTDError, match="--tune goes with one"):
        tune = ["--tune", str(folder)]
        evaluate_segmentation_for_text.main([*command, str(folder), str(part), *tune])


def words_result(folder, name, ids, limit=None):
    """A result that keeps every word of captions "a dog"."""
    folder.mkdir(exist_ok=True)
    word = {"norm": 1.0, "selected": True}
    words = [{"word": "a", **word}, {"word": "dog", **word}]
    rows = [json.dumps({"id": key, "text": "a dog", "words": words}) for key in ids]
    (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    meta = {"protocol": {}, "identity": {"limit": limit}}
    (folder / f"{name}.meta.json").write_text(json.dumps(meta))


def test_tags_of_a_part_are_scored_on_that_part(tmp_path, capsys):
    rows = [{"image": f"{k}.jpg", "text": "a dog", "tags": ["dog"]} for k in "abcd"]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for k in "abcd":
        (tmp_path / f"{k}.jpg").touch()
    words_result(tmp_path / "out", "part", "ab", 2)
    words_result(tmp_path / "out", "whole", "abcd")
    command = ["--root", str(tmp_path / "set.jsonl"), "--out", str(tmp_path / "out")]
    assert evaluate_classification.main([*command, "--pred", "part"]) == 0
    assert "only the first 2 of the set" in capsys.readouterr().out
    assert evaluate_classification.main([*command, "--arch", "part", "whole"]) == 0
    out = capsys.readouterr().out
    assert out.count("Precision: 50.0, Recall: 100.0") == 2
    words_result(tmp_path / "out", "part", "a", 2)
    with pytest.raises(TTDError, match="1 missing: b"):
        evaluate_classification.main([*command, "--pred", "part"])


@pytest.mark.parametrize(
    ("values", "digits"),
    [((50.0, 51.0), 1), ((50.01, 50.04), 2), ((50.001, 50.002), 1), ((50.0, 50.0), 1), ((), 1)],
)
def test_a_second_decimal_only_where_it_shows_something(values, digits):
    assert decimals(values) == digits


def test_the_table_shows_a_small_difference():
    shown = means_table({"a": (0.5001, 0, 0), "b": (0.5004, 0, 0)}, "mIoU").splitlines()
    assert "50.01%" in shown[1] and "50.04%" in shown[2]


def test_the_protocol_line_says_what_differs():
    used = protocol("ttd", image=448, scales=(1.0, 0.5), pamr=True).resolve(
        "TCL", 224, "threshold", 0.4
    )
    settings = {**used.as_dict(), "arch": "TCL", "head": "maskclip", "checksum": "abc"}
    arguments = {"lora": "weights/TCL+TTD.pt", "weights": None, "head": None, "rule": None}
    stored = {"identity": settings, "arguments": arguments}
    assert protocol_line(stored) == (
        "protocol: ttd; TCL, lora TCL+TTD.pt, image 448, scales [1.0, 0.5], pamr, bg 0.4"
    )
    assert '"checksum": "abc"' in protocol_line(stored, verbose=True)
    more = {**arguments, "head": "maskclip", "weights": "/x/tcl.pth"}
    line = protocol_line({"identity": {**settings, "dtype": "bfloat16"}, "arguments": more})
    for part in ('head "maskclip"', "weights tcl.pth", "bfloat16"):
        assert part in line
    tcl = protocol("tcl", pamr=False).resolve("TCL", 224, "threshold", 0.4)
    command = {"kp_weight": None, "rule": None}
    line = protocol_line({"identity": tcl.as_dict(), "arguments": command})
    assert line == "protocol: tcl; pamr false, bg 0.5"
