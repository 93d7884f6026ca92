"""evaluate_classification.py --protocol multilabel from its command line, with the tiny model."""

import json

import numpy as np
import pytest
from small_multilabel import VOC_MARKS, write_nus, write_voc

import evaluate_classification as script
from core.errors import TTDError


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    write_voc(tmp_path)
    own = ["--set", "voc07", "--root", str(tmp_path), "--arch", "tiny", "--device", "cpu"]
    return ["--protocol", "multilabel", *own]


def test_measured_beside_published(arguments, tmp_path, capsys):
    out = tmp_path / "o.json"
    scorers = ["--scorer", "pixel", "softmax", "image", "piaa"]
    assert script.main([*arguments, *scorers, "--json", str(out), "--per-class"]) == 0
    text, said = capsys.readouterr()
    lines = {line.split("  ")[0]: line.split("  ")[1:] for line in text.splitlines() if line}
    assert text.splitlines()[2].split() == ["mAP,", "percent", "PIAA", "TagCLIP", "VOC"]
    assert [cell.strip() for cell in lines["positives"] if cell] == ["5", "8", "5"]
    assert "92.5" in "".join(lines["PIAA on SC-CLIP, published"])
    assert "CDUL 89" in text and "published list has 4952 and 7013" in said
    content = json.loads(out.read_text())
    results = content["labels"]["TagCLIP"]["results"]
    assert len(results) == 4 and content["made"]["words"][10] == "dining table"
    assert all(0 < result["map"] <= 1 for result in results.values())


def test_saved_scores_give_the_same_and_any_others(arguments, tmp_path, capsys):
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    saved = tmp_path / "saved"
    script.main([*arguments, "--save", str(saved), "--json", str(first)])
    (path,) = saved.iterdir()
    script.main([*arguments, "--pred", str(path), "--json", str(second)])
    found = [
        list(json.loads(p.read_text())["labels"]["PIAA"]["results"].values())
        for p in (first, second)
    ]
    assert found[0] == found[1]
    perfect = []
    for at, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        row["scores"] = {k: VOC_MARKS.get(k, [-1] * 4)[at] for k in row["scores"]}
        perfect.append(json.dumps(row))
    path.write_text("\n".join(perfect))
    capsys.readouterr()
    script.main([*arguments, "--pred", str(path)])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(path.stem))
    assert row.split()[-3:] == ["100.00", "100.00", "100.00"]
    path.write_text("\n".join(perfect[:-1]))
    with pytest.raises(TTDError, match=r"no scores of 1 images \(000006\)"):
        script.main([*arguments, "--pred", str(path)])


def test_a_list_of_ones_own_and_published_lists(tmp_path, capsys):
    write_nus(tmp_path)
    options = ["--protocol", "multilabel", "--arch", "tiny", "--device", "cpu", "--view", "whole"]
    (tmp_path / "PIAA.jsonl").write_text(
        json.dumps({"image": "0001_23.jpg", "labels": ["sky"]}) + "\n"
    )
    lists = ["--labels", str(tmp_path / "PIAA.jsonl")]
    assert script.main([*options, "--set", "nus", "--root", str(tmp_path), *lists]) == 0
    text, said = capsys.readouterr()
    lines = text.splitlines()
    assert lines[2].split()[-1] == "PIAA" and "published list has 60260 and 113418" in said
    assert next(line for line in lines if line.startswith("PIAA on SC-CLIP")).split()[-1] == "50.6"
    rows = [{"image": f"{k}.jpg", "labels": [f"class {k % 2}"]} for k in range(2)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "images").mkdir()
    for k, path in enumerate(sorted((tmp_path / "Flickr").rglob("*.jpg"))[:2]):
        (tmp_path / "images" / f"{k}.jpg").write_bytes(path.read_bytes())
    own = ["--labels", str(tmp_path / "own.jsonl"), "--names", "plain"]
    assert script.main([*options, *own]) == 0
    assert "own.jsonl: 2 images, 2 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scorer", "pixl"], "unknown scorer 'pixl'"),
        (["--names", "clip"], "choose one of piaa"),
        (["--set", "voc"], "voc07, voc12"),
        (["--classes", "x.txt"], "has its own"),
        (["--scorer", "piaa", "--train", "nothing"], "no such file"),
    ],
)
def test_mistakes_are_one_line(arguments, more, message):
    with pytest.raises(TTDError, match=message):
        script.main([*arguments, *more])


def test_damaged_images(arguments, tmp_path, capsys):
    path = tmp_path / "VOCdevkit/VOC2007/JPEGImages/000004.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(TTDError, match="1 images cannot be decoded .*000004"):
        script.main(arguments)
    script.main([*arguments, "--allow-missing"])
    assert "VOC2007 test: 3 images" in capsys.readouterr().out


def test_a_run_that_stops_goes_on(arguments, tmp_path, capsys):
    path = tmp_path / "VOCdevkit/VOC2007/JPEGImages/000006.jpg"
    good, saved = path.read_bytes(), tmp_path / "saved"
    path.write_bytes(b"")
    with pytest.raises(TTDError, match="cannot be decoded"):
        script.main([*arguments, "--save", str(saved)])
    path.write_bytes(good)
    script.main([*arguments, "--save", str(saved)])
    assert "resumes after 3 images" in capsys.readouterr().err
    (file,) = saved.iterdir()
    first = file.read_text()
    script.main([*arguments, "--save", str(saved)])
    assert file.read_text() == first


def test_neighbours_change_nothing(arguments, tmp_path):
    """One image at a time, or all together: the scores are those of the image alone."""
    found = []
    for batch in ("1", "4"):
        folder = tmp_path / batch
        options = ["--scorer", "piaa", "--save", str(folder), "--batch", batch]
        script.main([*arguments, *options])
        lines = next(folder.iterdir()).read_text().splitlines()
        found.append([list(json.loads(line)["scores"].values()) for line in lines])
    assert np.allclose(found[0], found[1], rtol=1e-3)
