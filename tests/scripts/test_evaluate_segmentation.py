"""evaluate_segmentation.py and evaluate_segmentation_for_text.py as they are called."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

import evaluate_segmentation
import evaluate_segmentation_for_text
from core.data.datasets import open_caption_set, open_dataset
from core.errors import TTDError
from core.evaluation.predictions import Problems, data_of, find_folder
from core.evaluation.report import means_table, published_line
from core.masks.results import save_scores
from core.metrics.segmentation import foreground_counts
from core.plots.gallery import Row, best_and_worst, draw_gallery

NAME = "TCL@VOC2012@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40"
CAPTIONS = NAME.replace("VOC2012", "CC3M")
HEIGHT, WIDTH = 24, 30


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def draw(rng, labels, ignored=0.1):
    """Blocks of labels with some 255."""
    values = np.kron(rng.choice(labels, (HEIGHT // 6, WIDTH // 6)), np.ones((6, 6))).astype(
        np.uint8
    )
    return np.where(rng.random(values.shape) < ignored, 255, values).astype(np.uint8)


@pytest.fixture
def place(tmp_path):
    """ROOT/VOC2012 with 5 images and results/NAME with predictions that are right in about 7 of 10 blocks."""
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
    return evaluate_segmentation.main(
        [part for pair in options.items() if pair[1] for part in pair] + list(more)
    )


def test_published_line_is_exact():
    assert published_line("TCL+TTD@VOC2012", "mIoU", (0.6111, 0.1849, 0.2040)) == (
        "TCL+TTD@VOC2012 | mIoU: 61.1%, mFPR: 0.185, mFNR: 0.204"
    )
    assert published_line("TCL+TTD", "Caption IoU", (0.6551, 0.163, 0.1819)) == (
        "TCL+TTD | Caption IoU: 65.5%, mFPR: 0.163, mFNR: 0.182"
    )


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


def test_finding_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TTDError, match="none in results/ either"):
        find_folder("nowhere/x", "results")
    (tmp_path / "results/a@b@c").mkdir(parents=True)
    with pytest.raises(TTDError, match="results/ has a@b@c"):
        find_folder("nowhere/x", "results")
    assert data_of(Path(f"results/{NAME}")) == "VOC2012" and data_of(Path("results/mine")) is None


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


def test_best_and_worst():
    scores = {"a": 0.5, "b": 0.9, "c": float("nan"), "d": 0.1, "e": 0.5, "f": 0.7}
    assert best_and_worst(scores, 1) == ["b", "d"]
    assert best_and_worst(scores, 2) == ["b", "f", "e", "d"]
    assert best_and_worst(scores, 9) == ["b", "f", "a", "e", "d"]


def test_gallery_shows_what_it_says():
    """Truth and prediction have their colours over the grey image; the image itself is untouched."""
    palette = np.zeros((256, 3), np.uint8)
    palette[1], palette[2] = (200, 0, 0), (0, 0, 200)
    image = np.full((110, 110, 3), 100, np.uint8)
    truth, prediction = np.full((2, 110, 110), [[[1]], [[2]]], np.uint8)
    sheet = np.asarray(
        draw_gallery([Row("p", image, truth, prediction)], {1: "one", 2: "two"}, palette)
    )
    colours = {tuple(colour) for colour in sheet.reshape(-1, 3).tolist()}
    assert {(100, 100, 100), (175, 25, 25), (25, 25, 175), (200, 0, 0), (0, 0, 200)} <= colours
    for colour in ((100, 100, 100), (175, 25, 25), (25, 25, 175)):
        assert (
            abs((sheet == colour).all(-1).sum() - 220 * 220) < 60
        )  # a letter's edge may have the colour too


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


# Captions -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def captions(tmp_path):
    """ROOT/cc3m_for_evaluation with 6 captions, one of them without tags, and results_caption/NAME with scores."""
    return make_captions(tmp_path, 0)


def make_captions(root: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    base, folder = root / "cc3m_for_evaluation", root / "results_caption" / CAPTIONS
    for number in range(6):
        tags = [["dog"], ["dog", "sea"], ["sea", "sun"], ["sun"], ["dog"], []][number]
        save(base / f"image/{number}.jpg", rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        (base / "json_refined").mkdir(exist_ok=True)
        (base / f"json_refined/{number}.json").write_text(
            json.dumps({"text": "a dog, sea, sun", "tags": tags})
        )
        (base / "mask_using_HQ-SAM").mkdir(exist_ok=True)
        for tag in tags:
            save(base / f"mask_using_HQ-SAM/{number}/{tag}.png", (draw(rng, [0, 0, 255], 0)))
        soft = rng.random((HEIGHT, WIDTH)).astype(np.float16)
        save(folder / f"{number}.png", ((soft > 0.4) * 255).astype(np.uint8))
        save_scores(folder / f"scores/{number}.npz", soft[None], np.zeros(1, np.int16), soft.shape)
    return root


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


def evaluate_text(place, *more, **replaced):
    options = {
        "--pred": f"{place}/results_caption/{CAPTIONS}/",
        "--tag": "TCL+TTD",
        "--root": str(place),
    } | replaced
    return evaluate_segmentation_for_text.main(
        [part for pair in options.items() if pair[1] for part in pair] + [*more]
    )


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
    evaluate_text(
        captions,
        "--tune",
        f"{other}/results_caption/{CAPTIONS}",
        "--tune-root",
        str(other),
        "--json",
        str(captions / "s.json"),
    )
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
    else:
        assert evaluate_text(captions) == 0


def test_the_other_evaluator_is_named(place, captions):
    (place / "results" / NAME / "protocol.json").write_text(
        json.dumps({"identity": {"tags": "caption"}})
    )
    with pytest.raises(TTDError, match="evaluate_segmentation_for_text.py"):
        evaluate(place)
    (captions / "results_caption" / CAPTIONS / "protocol.json").write_text(
        json.dumps({"identity": {"classes": "x"}})
    )
    with pytest.raises(
        TTDError, match=r"label maps of classes; score them with evaluate_segmentation.py"
    ):
        evaluate_text(captions)


def test_a_caption_that_is_the_whole_picture_is_counted(captions, capsys):
    save(
        captions / "cc3m_for_evaluation/mask_using_HQ-SAM/0/dog.png",
        np.full((HEIGHT, WIDTH), 255, np.uint8),
    )
    evaluate_text(captions, "--gallery", "1")
    output = capsys.readouterr().out
    assert "1 of them with a truth that is the whole image" in output
    assert Image.open(captions / f"results_caption/{CAPTIONS}.gallery.png").size[0] > 600


def test_world_by_name(tmp_path, capsys):
    from core.world.writer import WorldConfig, make_world

    make_world(tmp_path / "world", WorldConfig(train=0, val=6, seed=1, size=64))
    data, texts = open_dataset("World", tmp_path), open_caption_set("World", tmp_path)
    folder, caption_folder = (
        tmp_path / "tiny@World@OpenAI@x",
        tmp_path / "c" / "tiny@World@OpenAI@x",
    )
    folder.mkdir()
    for item in data.items():
        (folder / item.mask.name).write_bytes(item.mask.read_bytes())
    for record in texts.records.iterate():
        save(caption_folder / f"{record.id}.png", texts.truth_mask(record).astype(np.uint8) * 255)
    assert evaluate_segmentation.main(["--pred", str(folder), "--root", str(tmp_path)]) == 0
    assert (
        evaluate_segmentation_for_text.main(
            ["--pred", str(caption_folder), "--root", str(tmp_path)]
        )
        == 0
    )
    assert capsys.readouterr().out.count("IoU: 100.0%, mFPR: 0.000, mFNR: 0.000") == 2
    counts = foreground_counts(texts.truth_mask(record), texts.truth_mask(record))
    assert counts[1] == counts[2] == 0


@pytest.mark.parametrize(
    "script",
    ["evaluate_segmentation.py", "evaluate_segmentation_for_text.py", "tools/prepare_dataset.py"],
)
def test_help_imports_nothing_heavy(script):
    path = ROOT / script
    code = f"""import runpy, sys
sys.argv, sys.path[:0] = ['x', '--help'], [{str(path.parent)!r}]
try:
    runpy.run_path({str(path)!r}, run_name='__main__')
except SystemExit:
    pass
bad = {{'numpy', 'torch', 'PIL', 'yaml', 'tqdm'}} & set(sys.modules)
assert not bad, bad"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "--" in done.stdout, done.stderr
