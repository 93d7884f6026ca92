"""Scores at all thresholds at once against a label map made and scored for each threshold."""

import json

import numpy as np
import pytest
from PIL import Image

from core.data.labels.datasets import open_dataset
from core.errors import TTDError
from core.evaluation.threshold_sweep import counts_at_thresholds, label_counts, sweep_labels
from core.masks.results import save_scores
from core.masks.writer import save_mask
from core.plots.charts.curves import Line, draw_sweep

THRESHOLDS = (0.1, 0.25, 0.5, 0.8, 0.95)


def brute_force(labels: np.ndarray, truth: np.ndarray, values: list[int]) -> np.ndarray:
    """TP, FP, FN of every label by counting pixels one class at a time; truth 255 is not scored."""
    scored = truth != 255
    rows = []
    for value in values:
        is_true, is_predicted = scored & (truth == value), scored & (labels == value)
        rows.append(
            [
                (is_true & is_predicted).sum(),
                (is_predicted & ~is_true).sum(),
                (is_true & ~is_predicted).sum(),
            ]
        )
    return np.array(rows)


@pytest.mark.parametrize("background", [True, False])
def test_all_thresholds_equal_a_label_map_for_each(background):
    rng = np.random.default_rng(0)
    classes, labels = 4, 4 + background
    maps = rng.random((classes, 30, 40)).astype(np.float16)
    truth = rng.integers(0, labels + 1, (30, 40))  # `labels` = not scored
    winners = maps.argmax(0) + background
    counts = label_counts(maps.max(0), winners, truth, labels, THRESHOLDS)
    assert counts.sum() == (truth < labels).sum()
    got = counts_at_thresholds(counts, background)
    for row, threshold in zip(got, THRESHOLDS, strict=True):
        below = 0 if background else 200
        predicted = np.where(maps.max(0).astype(np.float32) > np.float32(threshold), winners, below)
        want = brute_force(predicted, np.where(truth == labels, 255, truth), list(range(labels)))
        assert (row == want).all()


def test_a_pixel_that_nobody_wins_is_background_however_high_its_value():
    """Two labels, winner 2 is nobody: true 0 and true 1, both at 0.9."""
    truth, winners = np.array([[0, 1]]), np.array([[2, 2]])
    counts = label_counts(np.full((1, 2), 0.9), winners, truth, 2, (0.5,))
    assert counts_at_thresholds(counts, background=True).tolist() == [[[1, 1, 0], [0, 0, 1]]]
    assert counts_at_thresholds(counts, background=False).tolist() == [[[0, 0, 1], [0, 0, 1]]]


def test_thresholds_must_ascend():
    with pytest.raises(TTDError, match="ascend"):
        label_counts(np.zeros((1, 1)), np.zeros((1, 1), int), np.zeros((1, 1), int), 2, (0.5, 0.4))


@pytest.fixture
def result(tmp_path):
    """A set of five images, three classes and background, and scores of random maps."""
    rng = np.random.default_rng(1)
    for folder in ("images", "masks", "r@pets@x"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pets.yaml").write_text(
        "name: pets\nimages: images\nmasks: masks\nclasses: [a, b, c]\nbackground: 0\n"
        "ignore: 255\nbg: 0.4\n"
    )
    (tmp_path / "r@pets@x" / "protocol.json").write_text(json.dumps({"protocol": {"bg": 0.5}}))
    for i in range(5):
        truth = rng.choice([0, 1, 2, 3, 255], (8, 9)).astype(np.uint8)
        Image.fromarray(rng.integers(0, 255, (8, 9, 3)).astype(np.uint8)).save(
            tmp_path / "images" / f"{i}.png"
        )
        save_mask(tmp_path / "masks" / f"{i}.png", truth)
        kept = np.array([0, 2] if i else [], np.int16)  # class 1 nowhere; the first image has none
        maps = rng.random((len(kept), 8, 9)).astype(np.float16)
        save_scores(tmp_path / "r@pets@x" / "scores" / f"{i}.npz", maps, kept, (8, 9))
    return tmp_path


def expected(result, threshold):
    """mIoU over the classes that occur, by label maps made one by one."""
    total = 0
    for i in range(5):
        with np.load(result / "r@pets@x" / "scores" / f"{i}.npz") as stored:
            maps, classes = stored["maps"], stored["classes"]
        labels = np.zeros((8, 9), np.uint8)
        if len(classes):
            labels = np.where(
                maps.max(0).astype(np.float32) > np.float32(threshold),
                classes[maps.argmax(0)] + 1,
                0,
            )
        total = total + brute_force(
            labels, np.asarray(Image.open(result / "masks" / f"{i}.png")), [0, 1, 2, 3]
        )
    return np.mean([row[0] / row.sum() for row in total if row.sum()])


def test_sweep_of_a_result(result):
    dataset = open_dataset(str(result / "pets.yaml"))
    found, problems = sweep_labels(dataset, result / "r@pets@x", THRESHOLDS, workers=2)
    assert not problems.line()
    assert found.iou.shape == (5, 4)
    for row, threshold in zip(found.iou, THRESHOLDS, strict=True):
        assert np.nanmean(row) == pytest.approx(expected(result, threshold), abs=1e-12)


def test_the_script_prints_draws_and_writes(result, capsys):
    import sweep_bg

    line = [
        "--pred",
        str(result / "r@pets@x"),
        "--data",
        str(result / "pets.yaml"),
        "--json",
        str(result / "s.json"),
    ]
    assert sweep_bg.main(line) == 0
    printed = capsys.readouterr().out
    values = json.loads((result / "s.json").read_text())
    curve = values["results"]["r@pets@x"]["iou"]
    best = int(np.argmax(curve))
    assert f"best {100 * curve[best]:.1f}% at bg {values['thresholds'][best]:.2f}" in printed
    at = values["thresholds"].index(0.5)
    assert f"mIoU: {100 * curve[at]:.1f}% at bg 0.50" in printed
    assert curve[at] == pytest.approx(expected(result, 0.5), abs=1e-12)
    assert np.asarray(Image.open(result / "r@pets@x.sweep.png")).std() > 10
    sums = np.sum([values["results"]["r@pets@x"][key] for key in ("iou", "fpr", "fnr")], 0)
    assert np.allclose(sums, 1)


def test_a_crf_result_is_refused(result):
    import sweep_bg

    (result / "r@pets@x" / "protocol.json").write_text(
        json.dumps({"protocol": {"bg": 0.5, "crf": True}})
    )
    with pytest.raises(TTDError, match="CRF"):
        sweep_bg.main(["--pred", str(result / "r@pets@x"), "--data", str(result / "pets.yaml")])


def test_scores_of_another_size_are_named(result):
    path = result / "r@pets@x" / "scores" / "3.npz"
    save_scores(path, np.zeros((1, 2, 2), np.float16), np.zeros(1, np.int16), (2, 2))
    with pytest.raises(TTDError, match=r"3.npz.*\(2, 2\).*\(8, 9\)"):
        sweep_labels(open_dataset(str(result / "pets.yaml")), result / "r@pets@x", THRESHOLDS)


def test_pictures_without_scores_are_named(result, capsys):
    import sweep_bg

    (result / "r@pets@x" / "scores" / "3.npz").unlink()
    line = ["--pred", str(result / "r@pets@x"), "--data", str(result / "pets.yaml")]
    with pytest.raises(TTDError, match=r"scores: 1 missing \(3\).*--allow-missing"):
        sweep_bg.main(line)
    assert sweep_bg.main([*line, "--allow-missing"]) == 0
    assert "left out: 1 missing (3)" in capsys.readouterr().err


def test_a_result_without_a_threshold_is_not_said_to_have_one(result, capsys):
    import sweep_bg

    (result / "r@pets@x" / "protocol.json").write_text(
        json.dumps({"protocol": {"bg": 0.5, "rule": "none"}})
    )
    sweep_bg.main(["--pred", str(result / "r@pets@x"), "--data", str(result / "pets.yaml")])
    printed = capsys.readouterr().out
    assert "at bg 0.50" not in printed and "best" in printed


def test_where_the_plot_goes(result):
    import sweep_bg

    line = ["--pred", str(result / "r@pets@x"), "--data", str(result / "pets.yaml"), "--plot"]
    sweep_bg.main([*line, str(result / "new" / "folder" / "x.png")])
    assert Image.open(result / "new" / "folder" / "x.png").size[0] > 100
    with pytest.raises(TTDError, match="ends in .png"):
        sweep_bg.main([*line, str(result / "x.picture")])


def test_a_folder_that_does_not_say_its_set(result):
    import sweep_bg

    folder = (result / "r@pets@x").rename(result / "r")
    with pytest.raises(TTDError, match="add --data"):
        sweep_bg.main(["--pred", str(folder)])


def test_the_picture_shows_its_lines():
    """A line's colour is where its values are: high on the left, low on the right."""
    thresholds = tuple(np.linspace(0.01, 0.99, 99).tolist())
    image = np.asarray(
        draw_sweep(thresholds, [Line("falls", np.linspace(0.8, 0.1, 99))], "mIoU", {0.4: "--bg"})
    )
    blue = np.abs(image.astype(int) - (0, 114, 178)).sum(-1) < 30
    rows, columns = np.nonzero(blue[:430])
    left, right = rows[columns < 200].mean(), rows[columns > 500].mean()
    assert left < right
