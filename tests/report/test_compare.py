"""tools/compare.py: runs of every kind, paired differences, refusals."""

import json

import compare
import numpy as np
import pytest
from PIL import Image
from small_predictions import make_captions, save

from core.errors import TTDError
from core.report.compare import compare as compare_runs
from core.report.runs import BOXES, open_run


def write_boxes(path, ious, images=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, iou in enumerate(ious):
        image = f"i{number}" if images is None else images[number]
        row = {"id": f"p{number}", "image": image, "text": f"t{number}", "iou": float(iou)}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))
    return str(path)


def test_boxes_by_hand(tmp_path, capsys):
    """Acc@0.5 and mean IoU, and an interval of a mean difference by the normal distribution."""
    rng = np.random.default_rng(0)
    ious = rng.random(300)
    better = np.clip(ious + rng.random(300) / 5, 0, 1)
    paths = [write_boxes(tmp_path / name / "val.jsonl", values)
             for name, values in (("a", ious), ("b", better))]  # fmt: skip
    out = tmp_path / "out.json"
    csv = tmp_path / "out.csv"
    assert compare.main([*paths, "--json", str(out), "--csv", str(csv)]) == 0
    (group,) = json.loads(out.read_text())["groups"]
    lines = {(one["name"], one["measure"]): one for one in group["lines"]}
    assert lines["a/val", "Acc@0.5"]["score"]["value"] == pytest.approx((ious >= 0.5).mean())
    assert lines["b/val", "mean IoU"]["score"]["value"] == pytest.approx(better.mean())
    assert lines["a/val", "mean IoU"]["change"] is None
    change, gain = lines["b/val", "mean IoU"]["change"], better - ious
    half = 1.96 * gain.std() / np.sqrt(len(gain))
    assert change["value"] == pytest.approx(gain.mean())
    assert change["low"] == pytest.approx(gain.mean() - half, abs=0.15 * half)
    assert change["high"] == pytest.approx(gain.mean() + half, abs=0.15 * half)
    printed = capsys.readouterr().out
    assert "boxes of val: 300 images" in printed and "against a/val" in printed
    assert len(csv.read_text().splitlines()) == 5
    first = out.read_bytes()
    compare.main([*paths, "--json", str(out)])
    assert out.read_bytes() == first


def test_phrases_of_an_image_are_drawn_together(tmp_path):
    """Ten copies of each phrase in its image say no more than one: the interval is as wide."""
    ious = np.random.default_rng(1).random(60)
    one = open_run(write_boxes(tmp_path / "a.jsonl", ious), None)
    images = [f"i{number % 60}" for number in range(600)]
    ten = open_run(write_boxes(tmp_path / "b.jsonl", np.tile(ious, 10), images), None)
    spans = []
    for run in (one, ten):
        score = compare_runs([run]).lines[1].score
        spans.append(score.high - score.low)
    assert spans[0] == pytest.approx(spans[1], rel=0.02)


def test_other_images_are_refused_or_left_out(tmp_path, capsys):
    ious = np.linspace(0, 1, 20)
    whole = write_boxes(tmp_path / "a/v.jsonl", ious)
    part = write_boxes(tmp_path / "b/v.jsonl", ious[:15])
    with pytest.raises(TTDError, match=r"a/v: 20, b/v: 15; 15 in all of them.*--common"):
        compare.main([whole, part])
    assert compare.main([whole, part, "--common"]) == 0
    said = capsys.readouterr().out
    assert "15 images; 5 that not all of them have are left out" in said
    assert said.count(f"{100 * (ious[:15] >= 0.5).mean():.2f}") >= 2
    none = write_boxes(tmp_path / "c/v.jsonl", ious, [f"x{k}" for k in range(20)])
    with pytest.raises(TTDError, match="not one image is in all"):
        compare.main([whole, none, "--common"])


@pytest.fixture
def place(tmp_path):
    """Captions with two results of masks, a set with two results of label maps, two of tags."""
    make_captions(tmp_path, 0)
    (first,) = (tmp_path / "results_caption").iterdir()
    second = tmp_path / "results_caption" / "b@CC3M@x"
    second.mkdir()
    for path in first.glob("*.png"):
        Image.fromarray(np.zeros((24, 30), np.uint8)).save(second / path.name)
    rng = np.random.default_rng(0)
    (tmp_path / "set.yaml").write_text(
        "images: image\nmasks: mask\nbackground: 0\nclasses: [a, b]\n"
    )
    for number in range(4):
        truth = rng.integers(0, 3, (6, 7)).astype(np.uint8)
        save(tmp_path / f"image/{number}.jpg", rng.integers(0, 255, (6, 7, 3), np.uint8))
        save(tmp_path / f"mask/{number}.png", truth)
        save(tmp_path / f"results/right/{number}.png", truth)
        save(tmp_path / f"results/zero/{number}.png", np.zeros_like(truth))
    for folder in (tmp_path / "results").iterdir():
        stored = {"arguments": {"data": str(tmp_path / "set.yaml")}, "identity": {}}
        (folder / "protocol.json").write_text(json.dumps(stored))
    root = tmp_path / "cc3m_for_evaluation"
    for name, kept in (("t1", ("dog", "sea", "sun")), ("t2", ("dog",))):
        lines = []
        for number in range(6):
            words = [{"word": w, "norm": 0.5, "selected": w in kept}
                for w in ("a", "dog", "sea", "sun")]  # fmt: skip
            lines.append({"id": str(number), "text": "a dog, sea, sun", "words": words})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text)
        meta = {"identity": {"root": str(root)}}
        (tmp_path / f"{name}.meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_runs_of_every_kind_in_one_call(place, capsys):
    runs = [*(place / "results").iterdir(), *(place / "results_caption").iterdir()]
    runs += [place / "t1.jsonl", place / "t2.jsonl"]
    out = place / "out.json"
    argv = [*map(str, sorted(runs)), "--root", str(place), "--json", str(out)]
    assert compare.main(argv) == 0
    groups = {one["kind"]: one for one in json.loads(out.read_text())["groups"]}
    assert set(groups) == {"label maps", "masks of captions", "tags"}
    right, zero = groups["label maps"]["lines"]
    assert right["score"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert zero["change"]["value"] == pytest.approx(zero["score"]["value"] - 1)
    shown = capsys.readouterr().out
    assert "masks of captions of CC3M: 5 images" in shown
    # 6 captions, 7 true words: all three words selected in each, or the dog alone
    f1 = [one["score"]["value"] for one in groups["tags"]["lines"] if one["measure"] == "F1"]
    assert f1 == [pytest.approx(2 * 7 / (18 + 7)), pytest.approx(2 * 3 / (6 + 7))]


def test_what_cannot_be_compared_is_said(place, tmp_path):
    wrong = tmp_path / "x.jsonl"
    for text, said in [
        ("", "no lines in it"),
        ('{"id": "a", "image": "b", "text": "c", "iou": 2}\n', r"x.jsonl:1: not a scored box"),
        ('{"id": "a", "image": "b", "text": "c", "iou": true}\n', r"x.jsonl:1: not a scored box"),
        ('{"id": "a", "image": "b", "text": "c", "iou": 1}\n' * 2, r"x.jsonl:2: a second box"),
        ('{"words": 1}\n', "--tags-root"),
    ]:
        wrong.write_text(text)
        with pytest.raises(TTDError, match=said):
            compare.main([str(wrong)])
    with pytest.raises(TTDError, match="neither a folder of masks"):
        compare.main([str(tmp_path / "gone")])
    twice = str(place / "t1.jsonl")
    with pytest.raises(TTDError, match="two results are called t1"):
        compare.main([twice, twice])
    with pytest.raises(TTDError, match="1 names for 2 results"):
        compare.main([twice, twice, "--tag", "a"])
    assert BOXES == "boxes"
