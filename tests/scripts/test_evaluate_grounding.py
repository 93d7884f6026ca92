"""evaluate_grounding.py, produce_boxes_from_text.py and demo.py --ground on a small model."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from harmless_page import HOSTILE, check_harmless
from oracle_grounding import ReferenceGrounder, official_file
from paths import ROOT
from PIL import Image
from small_grounding import write_grounder, write_phrases

import demo
import evaluate_grounding
import produce_boxes_from_text
from core.errors import TTDError
from core.grounding.baselines import largest_part


@pytest.fixture(scope="module")
def phrases(tmp_path_factory):
    return write_phrases(tmp_path_factory.mktemp("phrases"), 24)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_grounder(tmp_path_factory.mktemp("model"))


def evaluate(*argv):
    return evaluate_grounding.main([*argv, "--device", "cpu"])


def test_several_models_are_one_table(weights, phrases, tmp_path, capsys):
    other = tmp_path / "other" / "second.safetensors"
    other.parent.mkdir()
    other.write_bytes(Path(weights).read_bytes())
    files = ["--json", str(tmp_path / "x.json"), "--pred", str(tmp_path / "boxes")]
    assert evaluate("--grounder", weights, str(other), "--data", str(phrases), *files) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0]: line.split()[-1] for line in lines if line.startswith("miou")}
    assert list(rows) == ["miou, model", "miou, second"] and len(set(rows.values())) == 1
    content = json.loads((tmp_path / "x.json").read_text())
    scores, inputs = content["scores"], content["inputs"]
    assert set(inputs) == {"list"} and len(inputs["list"]) == 16
    assert scores["model"] == scores["second"] and "list" in scores["model"]
    assert (tmp_path / "boxes" / "second" / "list.jsonl").exists()
    with pytest.raises(TTDError, match="--gallery draws the boxes of one model"):
        evaluate("--grounder", weights, str(other), "--gallery", "x.png")


def test_ref_l4_of_a_model_and_of_its_boxes(weights, phrases, tmp_path):
    rows = []
    for line in phrases.read_text().splitlines():
        row = json.loads(line)
        left, top, right, bottom = row["box"]
        own = {"id": f"{len(rows):06d}", "caption": row["text"], "file_name": row["image"]}
        own |= {"bbox": [left, top, right - left, bottom - top], "ori_category_id": "o365_1"}
        rows.append(json.dumps(own))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    argv = ["--ref-l4", str(tmp_path / "rows.jsonl"), "--data_root", str(phrases.parent / "images")]
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    assert (
        evaluate(*argv, "--grounder", weights, "--json", str(first), "--pred", str(tmp_path)) == 0
    )
    boxes = ["--predictions", str(tmp_path / "ref-l4.json")]
    assert evaluate(*argv, *boxes, "--json", str(second)) == 0
    assert first.read_text() == second.read_text()
    assert json.loads(first.read_text())["phrases"] == len(rows)


def test_scores_files_and_gallery(weights, phrases, tmp_path, capsys):
    out = {name: tmp_path / f"x.{name}" for name in ("json", "csv", "png")}
    argv = ["--grounder", weights, "--data", str(phrases), "--baselines", "--pred", str(tmp_path)]
    argv += ["--json", str(out["json"]), "--csv", str(out["csv"]), "--gallery", str(out["png"])]
    assert evaluate(*argv) == 0
    told = capsys.readouterr().out
    for word in ("acc@0.5", "miou", "whole image", "centre", "random box", "words:", "size:"):
        assert word in told
    content = json.loads(out["json"].read_text())
    lines = [json.loads(line) for line in (tmp_path / "list.jsonl").read_text().splitlines()]
    assert len(lines) == 24
    share = np.mean([line["iou"] >= 0.5 for line in lines])
    assert content["scores"]["list"]["acc@0.5"] == pytest.approx(share)
    assert f"{100 * share:.2f}" in out["csv"].read_text()
    coco = json.loads((tmp_path / "list.coco.json").read_text())
    left, top, width, height = coco[3]["bbox"]
    want = lines[3]["box"]
    assert [left, top, left + width, top + height] == pytest.approx(want, abs=0.02)
    assert Image.open(out["png"]).size[0] > 500


def test_batches_do_not_matter(weights, phrases, tmp_path):
    for batch in ("1", "64"):
        argv = ["--grounder", weights, "--data", str(phrases), "--batch", batch]
        evaluate(*argv, "--pred", str(tmp_path / batch))
    one, many = (
        [json.loads(line) for line in (tmp_path / b / "list.jsonl").read_text().splitlines()]
        for b in ("1", "64")
    )
    for first, second in zip(one, many, strict=True):
        assert first["box"] == pytest.approx(second["box"], abs=0.02)
        assert first["text"] == second["text"]


def test_published_rows_and_clean_labels(weights, phrases, tmp_path, capsys):
    images = tmp_path / "data/other/images/mscoco/images/train2014"
    images.mkdir(parents=True)
    lines = [json.loads(line) for line in phrases.read_text().splitlines()]
    for line in lines:
        Image.open(phrases.parent / "images" / line["image"]).save(images / line["image"])
    (tmp_path / "labels/unc").mkdir(parents=True)
    lines = [{**line, "clean": number < 5} for number, line in enumerate(lines)]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / "labels/unc/unc_testA.jsonl").write_text(text)
    argv = ["--dataset", "unc", "--eval_set", "testA", "--data_root", str(tmp_path / "data")]
    argv += ["--split_root", str(tmp_path / "labels"), "--limit", "8"]
    evaluate("--eval_model", weights, *argv)
    told = capsys.readouterr().out
    assert "87.76" in told and "69.03" in told and "clean_acc@0.5" in told
    assert "unc testA: 8 phrases" in told


def test_largest_part():
    mask = np.zeros((10, 12), bool)
    mask[1:3, 1:4] = True
    mask[5:9, 6:12] = True
    assert largest_part(mask).tolist() == [6, 5, 12, 9]
    assert largest_part(np.zeros((3, 4), bool)).tolist() == [0, 0, 4, 3]


def test_lists_of_one_name_stay_two(tmp_path):
    """a/val.jsonl and b/val.jsonl: the second one's scores and boxes replaced the first one's."""
    from tools.grounding_report import csv_of, title

    named = evaluate_grounding.own_lists(["a/val.jsonl", "b/val.jsonl", "c/x.jsonl", "c/x.jsonl"])
    assert list(named.values()) == ["a/val.jsonl", "b/val.jsonl", "c/x.jsonl"]
    assert [title(("", name)) for name in named] == ["a-val", "b-val", "x"]
    with pytest.raises(TTDError, match="two lists of one name"):
        evaluate_grounding.own_lists(["1/a/val.jsonl", "2/a/val.jsonl"])
    assert csv_of([["percent", "a,b"], ["miou", "1.00"]]) == 'percent,"a,b"\nmiou,1.00\n'


def test_wrong_calls(weights, phrases):
    for argv in (
        ["--data", str(phrases)],
        ["--grounder", weights],
        ["--grounder", weights, "--dataset", "coco"],
        ["--grounder", str(phrases), "--data", str(phrases)],
    ):
        with pytest.raises(TTDError):
            evaluate(*argv)


def produce(weights, out, *argv):
    return produce_boxes_from_text.main(
        ["--grounder", weights, "--out", str(out), "--device", "cpu", "--tag", "x", *argv]
    )


def read(out):
    return [json.loads(line) for line in (out / "x.jsonl").read_text().splitlines()]


def test_the_page_of_boxes(weights, phrases, tmp_path, capsys):
    """--report and --against the same weights under another name: no change, in no draw."""
    other = tmp_path / "other.safetensors"
    other.write_bytes(Path(weights).read_bytes())
    lines = [json.loads(line) for line in phrases.read_text().splitlines()]
    page, own = tmp_path / "page.html", tmp_path / "list.jsonl"
    for line in lines:
        line["image"] = str(phrases.parent / "images" / line["image"])
        line["text"] += HOSTILE.replace("\ud800", "").replace("\x00", "")
    own.write_text("".join(json.dumps(line) + "\n" for line in lines))
    argv = ["--grounder", weights, "--data", str(own), "--report", str(page)]
    assert evaluate(*argv, "--against", str(other)) == 0
    said = capsys.readouterr().out
    assert "0.0 points (95 %: 0.0 to 0.0" in said
    source = page.read_text(encoding="utf-8")
    reader = check_harmless(source)
    score = re.search(r"acc@0.5, model +([\d.]+)", said)[1]
    assert f'<b class="value">{float(score):.1f}</b>' in source
    assert sum(name == "img" for name, _ in reader.elements) == 16
    assert "Most changed" not in source


def test_an_earlier_model_that_is_not_there_is_said_first(weights, tmp_path, capsys):
    """Before the list is read, which is not there either."""
    lists = ["--grounder", weights, "--data", str(tmp_path / "no.jsonl")]
    with pytest.raises(TTDError, match=r"no weight file at .*earlier\.pth"):
        evaluate(*lists, "--against", str(tmp_path / "earlier.pth"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["adapter", "text", "cut", "folder"])
@pytest.mark.parametrize("option", ["--against", "--grounder"])
def test_a_later_file_that_is_no_grounder_is_said_first(
    weights, phrases, tmp_path, capsys, monkeypatch, kind, option
):
    """Before the first model looks at a phrase, whose boxes would be lost."""
    bad = tmp_path / ("text.pth" if kind == "text" else f"{kind}.safetensors")
    adapter = ROOT / "weights/tiny+TTD.safetensors"
    contents = {"adapter": adapter.read_bytes(), "text": b"hello\n"}
    contents["cut"] = Path(weights).read_bytes()[:-100]
    if kind == "folder":
        bad.mkdir()
    else:
        bad.write_bytes(contents[kind])
    monkeypatch.setattr(evaluate_grounding, "locate", None)
    lists = ["--data", str(phrases)]
    argv = ["--grounder", weights, *([str(bad)] if option == "--grounder" else [option, str(bad)])]
    said = "^--against: .*" if option == "--against" else ""
    with pytest.raises(TTDError, match=rf"{said}{bad.name}") as found:
        evaluate(*argv, *lists)
    assert "\n" not in str(found.value) and capsys.readouterr().out == ""


def test_ref_l4_says_first_that_the_earlier_model_is_none(weights, tmp_path):
    """Before the annotations are read, which are not there."""
    (tmp_path / "x.pth").write_bytes(b"hello")
    argv = ["--ref-l4", str(tmp_path / "no.jsonl"), "--grounder", weights]
    with pytest.raises(TTDError, match=r"^--against: .*x\.pth"):
        evaluate(*argv, "--against", str(tmp_path / "x.pth"))


def test_boxes_are_exported(weights, phrases, tmp_path):
    """Of a run and of the same command once more: every box, in the images' own sizes."""
    where = tmp_path / "a/x.export/coco/annotations/instances_default.json"
    contents = []
    for _ in range(2):
        produce(weights, tmp_path / "a", "--root", str(phrases), "--export", "coco")
        contents.append(where.read_bytes())
        where.unlink()
    content = json.loads(contents[0])
    assert contents[0] == contents[1] and len(content["annotations"]) == len(read(tmp_path / "a"))
    sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
    for one in content["annotations"]:
        (width, height), (x, y, wide, high) = sizes[one["image_id"]], one["bbox"]
        assert 0 <= x <= x + wide <= width + 0.01 and 0 <= y <= y + high <= height + 0.01


def test_produced_boxes_are_the_evaluated_ones(weights, phrases, tmp_path, capsys):
    produce(weights, tmp_path / "a", "--root", str(phrases), "--batch", "5")
    evaluate("--grounder", weights, "--data", str(phrases), "--pred", str(tmp_path / "b"))
    want = (tmp_path / "b/list.jsonl").read_text().splitlines()
    for ours, line in zip(read(tmp_path / "a"), want, strict=True):
        assert ours["box"] == pytest.approx(json.loads(line)["box"], abs=0.02)
        assert ours["text"] == json.loads(line)["text"]
    before = (tmp_path / "a/x.jsonl").read_bytes()
    capsys.readouterr()
    produce(weights, tmp_path / "a", "--root", str(phrases), "--batch", "5")
    assert "complete" in capsys.readouterr().out
    assert (tmp_path / "a/x.jsonl").read_bytes() == before
    with pytest.raises(TTDError, match="other settings"):
        produce(weights, tmp_path / "a", "--root", str(phrases), "--batch", "6")


def test_the_same_phrases_for_every_image(weights, phrases, tmp_path):
    texts = ["a red thing", "the blue square"]
    produce(weights, tmp_path, "--root", str(phrases), "--phrases", *texts, "--batch", "5")
    rows = read(tmp_path)
    assert len(rows) == 24 and {row["text"] for row in rows} == set(texts)


def test_unreadable_images_are_skipped(weights, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    lines = [{"image": name, "text": "dog"} for name in ("bad.png", "good.png", "bad.png")]
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    produce(weights, tmp_path / "out", "--root", str(tmp_path / "list.jsonl"), "--batch", "2")
    assert len(read(tmp_path / "out")) == 1
    assert len((tmp_path / "out/x.skipped.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_produce_survives_kill_minus_9(weights, phrases, tmp_path):
    line = [sys.executable, str(ROOT / "produce_boxes_from_text.py"), "--grounder", weights]
    line += ["--root", str(phrases), "--batch", "2", "--device", "cpu", "--tag", "x", "--out"]
    subprocess.run([*line, str(tmp_path / "whole")], check=True, cwd=tmp_path)
    process = subprocess.Popen([*line, str(tmp_path / "parts")], cwd=tmp_path)
    file = tmp_path / "parts/x.jsonl"
    while not (file.exists() and file.stat().st_size):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*line, str(tmp_path / "parts")], check=True, cwd=tmp_path)
    assert file.read_bytes() == (tmp_path / "whole/x.jsonl").read_bytes()


def test_demo(weights, phrases, tmp_path, capsys):
    image = str(phrases.parent / "images/0.png")
    argv = ["--input", image, "--ground", "the red square", "blue", "--grounder", weights]
    assert demo.main([*argv, "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert "the red square: left" in capsys.readouterr().out
    panel = np.array(Image.open(tmp_path / "0.png"))
    assert panel.shape[1] > 3 * 400
    with pytest.raises(TTDError, match="--grounder"):
        demo.main(["--input", image, "--ground", "x", "--out", str(tmp_path)])


def test_demo_of_the_image_that_ships(weights, tmp_path, capsys):
    """Two red stars: only the relation tells them apart. The image is the one its recipe makes."""
    from core.world.demo_scene import write_ground_demo

    argv = ["--ground", "the red star left of the house", "--grounder", weights]
    assert demo.main([*argv, "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert "384 x 384" in capsys.readouterr().out
    made = write_ground_demo(tmp_path / "made")
    shipped = ROOT / "weights/tiny-grounder/demo.jpg"
    assert np.array_equal(np.array(Image.open(made)), np.array(Image.open(shipped)))


def test_demo_with_a_published_checkpoint(phrases, tmp_path):
    from oracle_grounding import TEXT, VISION

    model = ReferenceGrounder(VISION, {**TEXT, "vocab_size": 49408}).eval()
    official_file(tmp_path / "clip-vg.pth", model)
    argv = ["--input", str(phrases.parent / "images/0.png"), "--ground", "a red square"]
    argv += ["--grounder", str(tmp_path / "clip-vg.pth"), "--out", str(tmp_path / "out")]
    assert demo.main([*argv, "--device", "cpu"]) == 0
