"""--report and --against of every evaluator: the printed numbers, on a page that cannot do harm."""

import json
import re

import numpy as np
import pytest
from harmless_page import check_harmless
from PIL import Image
from small_predictions import make_captions, save

import evaluate_classification
import evaluate_segmentation
import evaluate_segmentation_for_text
from core.errors import TTDError

EVIL = '"><img src=x onerror=alert(1)><script>'
SIZE = (24, 30)


@pytest.fixture
def labels(tmp_path):
    """A set of five images whose names and classes are markup, and two results, the second worse.

    Result `good` is right but for a tenth of the pixels, `poor` but for half of them.
    """
    rng = np.random.default_rng(0)
    text = json.dumps({"images": "image", "masks": "mask", "background": 0,
        "classes": [f"cat {EVIL}", "dog|hound", "never"]})  # fmt: skip
    (tmp_path / "set.yaml").write_text(text, encoding="utf-8")
    for number in range(5):
        name = f"p{number} {EVIL}"
        truth = np.kron(rng.integers(0, 3, (4, 5)), np.ones((6, 6))).astype(np.uint8)
        save(tmp_path / "image" / f"{name}.jpg", rng.integers(0, 255, (*SIZE, 3), np.uint8))
        save(tmp_path / "mask" / f"{name}.png", truth)
        for result, share in (("good", 0.1), ("poor", 0.5)):
            wrong = rng.random(SIZE) < share
            found = np.where(wrong, (truth + 1) % 3, truth).astype(np.uint8)
            save(tmp_path / "results" / f"{result} {EVIL}" / f"{name}.png", found)
    for result in (tmp_path / "results").iterdir():
        stored = {"identity": {"bg": 0.4, "arch": EVIL, "pictures": str(tmp_path)}, "run": EVIL}
        weights = f"{tmp_path}/weights/{result.name[:4]}.pt"
        stored |= {"weight_files": {weights: [1, 2]}, "command": f"x.py --weights={weights}"}
        (result / "protocol.json").write_text(json.dumps(stored))
    return tmp_path


def score_labels(place, *more):
    return evaluate_segmentation.main(
        [
            "--data",
            str(place / "set.yaml"),
            "--pred",
            str(place / "results" / f"good {EVIL}"),
            *more,
        ]
    )


def headings(reader):
    return [name for name, _ in reader.elements].count("h2")


def test_the_page_of_label_maps(labels, capsys):
    page = labels / "out" / "page.html"
    poor = str(labels / "results" / f"poor {EVIL}")
    assert score_labels(labels, "--report", str(page), "--against", poor) == 0
    said = capsys.readouterr().out
    (points,) = re.findall(r": ([+-][\d.]+) points \(95 %: ([+-][\d.]+) to", said)
    assert float(points[0]) > float(points[1]) > 10  # as the two results were made
    source = page.read_text(encoding="utf-8")
    reader = check_harmless(source)
    assert headings(reader) == 7 and points[0] in source
    assert "x.py --weights=good.pt" in source and str(labels.parent) not in source
    published = re.search(r"mIoU: ([\d.]+)%", said)[1]
    assert f'<b class="value">{published}</b>' in source
    photos = [a for name, a in reader.elements if name == "img"]
    assert len(photos) == 4 * (5 + 5)  # best and worst, then most changed
    first = page.read_bytes()
    score_labels(labels, "--report", str(page), "--against", poor)
    assert page.read_bytes() == first
    assert score_labels(labels, "--report", str(page)) == 0
    assert headings(check_harmless(page.read_text(encoding="utf-8"))) == 6


def test_against_itself_and_against_other_images(labels):
    with pytest.raises(TTDError, match="name an earlier one"):
        score_labels(labels, "--against", str(labels / "results" / f"good {EVIL}"))
    poor = labels / "results" / f"poor {EVIL}"
    next(poor.glob("*.png")).unlink()
    with pytest.raises(TTDError, match="not of the same images"):
        score_labels(labels, "--against", str(poor), "--allow-missing")


def test_the_page_of_captions(tmp_path, capsys):
    make_captions(tmp_path, 0)
    (result,) = (tmp_path / "results_caption").iterdir()
    for path in (tmp_path / "cc3m_for_evaluation/json_refined").iterdir():
        row = json.loads(path.read_text())
        path.write_text(json.dumps({**row, "text": row["text"] + EVIL}))
    other = tmp_path / "results_caption" / f"b {EVIL}"
    other.mkdir()
    for path in result.glob("*.png"):
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(other / path.name)
    page = tmp_path / "page.html"
    argv = ["--root", str(tmp_path), "--pred", str(result), "--against", str(other)]
    assert evaluate_segmentation_for_text.main([*argv, "--report", str(page)]) == 0
    said = capsys.readouterr().out
    score = re.search(r"Caption IoU: ([\d.]+)%", said)[1]
    assert f"+{score} points" in said  # nothing is found in the other
    source = page.read_text(encoding="utf-8")
    reader = check_harmless(source)
    assert f'<b class="value">{score}</b>' in source and "Threshold" in source
    assert sum(name == "img" for name, _ in reader.elements) == 4 * (5 + 5)


@pytest.fixture
def tags(tmp_path):
    """Three captions with true tags, and results `a` (all right but one word) and `b` (nothing)."""
    texts = {
        "x": ("a dog", ["dog"]),
        "y": ("red cat", ["red", "cat"]),
        "z": (f"sky {EVIL}", ["sky"]),
    }
    for folder in ("image", "json_refined"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)
    for name, (text, true) in texts.items():
        Image.fromarray(noise).save(tmp_path / f"set/image/{name}.jpg")
        content = json.dumps({"text": text, "tags": true})
        (tmp_path / f"set/json_refined/{name}.json").write_text(content)
    for result, kept in (("a", {"dog", "red", "sky"}), (f"b {EVIL}", set())):
        lines = []
        for name, (text, _) in texts.items():
            words = [{"word": w, "norm": 0.9 if w in kept else 0.1, "selected": w in kept}
                for w in re.findall(r"[a-z]+", text)]  # fmt: skip
            lines.append(json.dumps({"id": name, "text": text, "words": words}) + "\n")
        (tmp_path / f"{result}.jsonl").write_text("".join(lines))
        (tmp_path / f"{result}.meta.json").write_text(json.dumps({"identity": {"root": EVIL}}))
    return tmp_path


def test_the_page_of_tags(tags, capsys):
    page = tags / "page.html"
    argv = ["--root", str(tags / "set"), "--arch", str(tags / "a"), "--report", str(page)]
    assert evaluate_classification.main([*argv, "--against", str(tags / f"b {EVIL}")]) == 0
    assert "+85.7 points" in capsys.readouterr().out  # 3 right, 1 missed: 6 / 7
    source = page.read_text(encoding="utf-8")
    reader = check_harmless(source)
    assert '<b class="value">85.7</b>' in source
    assert str(tags.parent) not in source and "set: captions with tags" in source
    assert '<span class="missed">cat</span>' in source and '<span class="hit">dog</span>' in source
    assert sum(name == "img" for name, _ in reader.elements) == 3 + 3


def test_captions_of_one_image_are_drawn_together(tags):
    """As tools/compare.py draws them: the page's interval is that of images, not of captions."""
    from core.evaluation.tags import load_method, load_truth
    from core.report.tags import sums_of
    from core.tags.results import ResultPaths

    images = {"x": "x.jpg", "y": "y.jpg", "z": "x.jpg"}
    lines = []
    for name, image in images.items():
        own = json.loads((tags / f"set/json_refined/{name}.json").read_text())
        lines.append(json.dumps({"id": name, "image": f"set/image/{image}", **own}))
    (tags / "list.jsonl").write_text("\n".join(lines))
    _, truth = load_truth(tags / "list.jsonl")
    method = load_method(ResultPaths.of(tags, "a"), truth)
    assert sums_of(method, truth).tolist() == [[2, 0, 0], [1, 0, 1]]  # dog and sky; red, not cat
