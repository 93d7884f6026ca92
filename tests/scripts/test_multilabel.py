"""evaluate_classification.py --protocol multilabel from its command line, with the tiny model."""

import json
import re

import numpy as np
import pytest
from harmless_page import HOSTILE, check_harmless
from paths import ROOT
from small_multilabel import VOC_IDS, VOC_MARKS, write_nus, write_voc

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


def saved_marks(path, ranks):
    """Saved scores of the four images: of a class those of `ranks`, else 0."""
    from core.data.multilabel.voc import CLASSES

    rows = []
    for at, image in enumerate(VOC_IDS):
        scores = {name: ranks.get(name, [0.0] * 4)[at] for name in CLASSES}
        rows.append(json.dumps({"image": image, "scores": scores}))
    path.write_text("\n".join(rows))
    return str(path)


def test_the_page(arguments, tmp_path, capsys):
    """PIAA's reading: difficult is not there. Cat is right; of dog one image stands too high."""
    right = {"cat": [0.1, 0.9, 0.8, 0.7], "person": [0.9, 0.8, 0.1, 0.2]}
    now = saved_marks(tmp_path / "now.jsonl", {**right, "dog": [0.5, 0.9, 0.1, 0.1]})
    old = saved_marks(tmp_path / "old.jsonl", {**right, "dog": [0.1, 0.9, 0.5, 0.3]})
    page = tmp_path / "page.html"
    argv = [*arguments, "--pred", now, "--report", str(page)]
    assert script.main([*argv, "--against", old]) == 0
    # dog: place 2 of 4 now, 4 of 4 before; person and cat have no mistake.
    assert "now: +8.3 points" in capsys.readouterr().out
    source = page.read_text(encoding="utf-8")
    reader = check_harmless(source)
    assert f'<b class="value">{100 * 2.5 / 3:.1f}</b>' in source and str(tmp_path) not in source
    shown = source[source.index("Ranked too high") :]
    assert re.findall(r"<h3>(\w+): average precision ([\d.]+)", shown) == [
        ("cat", "100.0"), ("person", "100.0"), ("dog", "50.0"),
    ]  # fmt: skip
    assert shown.count("Every image with the class stands above every other one.") == 2
    assert re.findall(r"<h4>([^<]*)</h4>", shown) == [
        "000002.jpg: place 1 of 4, score 0.9", "000001.jpg: place 2 of 4, score 0.5",
    ]  # fmt: skip
    assert '<span class="false">not there</span> labels: cat, person' in shown
    assert '<span class="hit">there</span> labels: dog, person' in shown
    assert sum(name == "img" for name, _ in reader.elements) == 2
    for path in (tmp_path / "VOCdevkit/VOC2007/JPEGImages").iterdir():
        path.unlink()
    script.main(argv)
    assert page.read_text(encoding="utf-8").count("The image was not found.") == 2


def test_the_earlier_result_has_a_name_of_its_own(arguments, tmp_path, capsys):
    """Whatever the others are called: three rows, three scores."""
    ranks = {"cat": [0.1, 0.9, 0.8, 0.7], "dog": [0.5, 0.9, 0.1, 0.1]}
    (tmp_path / "old").mkdir()
    now = saved_marks(tmp_path / "now.jsonl", ranks)
    other = saved_marks(tmp_path / "now (before).jsonl", ranks)
    old = saved_marks(tmp_path / "old/now.jsonl", {})
    page = tmp_path / "page.html"
    script.main([*arguments, "--pred", now, other, "--against", old, "--report", str(page)])
    assert "against now (before) (before))" in capsys.readouterr().out
    source = page.read_text(encoding="utf-8")
    scores = source[source.index("<h2>Scores") : source.index("<h2>Readings")]
    assert re.findall(r"<td>(now[^<]*)</td>", scores) == [
        "now", "now (before)", "now (before) (before)",
    ]  # fmt: skip


def test_a_page_that_cannot_be_written_is_said_first(arguments, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file/a/b.html"
    for place, why in ((tmp_path, "is a folder"), (below, "file is no folder")):
        with pytest.raises(SystemExit) as ended:
            script.main([*arguments, "--report", str(place)])
        printed = capsys.readouterr()
        assert ended.value.code == 2 and why in printed.err and not printed.out


def test_every_reading_is_on_the_page(arguments, tmp_path, capsys):
    """The printed table, scorer by scorer; --against alone says the change."""
    page = tmp_path / "page.html"
    argv = [*arguments, "--scorer", "pixel", "image", "--save", str(tmp_path / "s")]
    script.main([*argv, "--report", str(page)])
    printed = capsys.readouterr().out
    reader = check_harmless(page.read_text(encoding="utf-8"))
    lines = [line for line in printed.splitlines() if line.startswith("tiny")]
    assert len(lines) == 2
    for line in lines:
        assert set(line.split()[-3:]) <= set(reader.said)
    assert {"PIAA", "TagCLIP", "VOC", "92.5"} <= set(reader.said)
    (saved,) = (tmp_path / "s").glob("*@pixel.jsonl")
    page.unlink()
    script.main([*arguments, "--pred", str(saved), "--against", str(saved)])
    assert f"{saved.stem}: 0.0 points (95 %: 0.0 to 0.0, against {saved.stem} (before))" in (
        capsys.readouterr().out
    )
    assert not page.exists()
    with pytest.raises(TTDError, match="--against nothing: no such file"):
        script.main([*arguments, "--against", "nothing"])


def test_the_page_does_not_say_where_a_model_was(arguments, tmp_path):
    model = f"local-dir:{ROOT / 'weights/tiny'}"
    page = tmp_path / "page.html"
    script.main([*arguments, "--arch", model, "--report", str(page)])
    source = page.read_text(encoding="utf-8")
    assert str(ROOT) not in source and "local-dir:tiny" in source


def test_a_page_of_hostile_names(tmp_path):
    evil = HOSTILE.replace("\ud800", "").replace("\x00", "")
    rows = [{"image": "a.jpg", "labels": [evil]}, {"image": "b.jpg", "labels": ["cat"]}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scores = [{"image": name, "scores": {evil: value, "cat": value}}
        for name, value in (("a.jpg", 1), ("b.jpg", 2))]  # fmt: skip
    (tmp_path / "made.jsonl").write_text("\n".join(map(json.dumps, scores)))
    page = tmp_path / "page.html"
    argv = ["--protocol", "multilabel", "--labels", str(tmp_path / "own.jsonl")]
    argv += ["--pred", str(tmp_path / "made.jsonl"), "--report", str(page)]
    assert script.main(argv) == 0
    reader = check_harmless(page.read_text(encoding="utf-8"))
    assert sum("<script>alert(1)</script>" in said for said in reader.said) == 4
