"""mIoU in training is that of the scripts that make and score masks."""

import numpy as np
import pytest
from PIL import Image
from small_pairs import picture

from core.data.labels.datasets import open_dataset
from core.errors import TTDError
from core.evaluation.label_maps import evaluate
from core.tcl.config import EvalConfig
from core.tcl.evaluation import Segmentation
from core.training.distributed import Ranks


@pytest.fixture
def dataset(tmp_path):
    """Five images with labels of two classes and background; the YAML that names them."""
    for folder in ("image", "mask"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        picture(number, (60, 44)).save(tmp_path / "image" / f"p{number}.png")
        labels = np.random.default_rng(number).integers(0, 3, (44, 60)).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "mask" / f"p{number}.png")
    path = tmp_path / "set.yaml"
    path.write_text(
        "name: small\nimages: image\nmasks: mask\nclasses: [dog, boat]\nbackground: true\nbg: 0.3\n"
    )
    return path


def miou_of_the_scripts(dataset, weights, tmp_path, *options):
    """Through produce_masks_from_tags.py and the evaluator."""
    import produce_masks_from_tags

    line = ["--data", str(dataset), "--arch", "TCL", "--weights", str(weights), "--device", "cpu"]
    line += ["--protocol", "tcl", "--image", "64", "--out", str(tmp_path / "out"), *options]
    assert produce_masks_from_tags.main(line) == 0
    [folder] = (tmp_path / "out").iterdir()
    return evaluate(open_dataset(str(dataset)), folder, allow_missing=True).scores.means[0]


@pytest.mark.parametrize("pamr", [False, True])
def test_it_is_the_score_of_the_scripts(dataset, small_tcl, tcl, tmp_path, pamr):
    config = EvalConfig(sets=(str(dataset),), image=64, pamr=pamr, limit=4)
    found = Segmentation(config).scores(tcl, Ranks())
    assert set(found) == {"miou", "miou_small"} and found["miou"] == found["miou_small"]
    flag = "--pamr" if pamr else "--no-pamr"
    want = miou_of_the_scripts(dataset, small_tcl, tmp_path, flag, "--limit", "4")
    assert found["miou"] == pytest.approx(want)


def test_every_process_scores_its_share(dataset, tcl):
    """Joint histograms add up: here two processes one after the other, each with the other's."""
    config = EvalConfig(sets=(str(dataset),), image=64, pamr=False)
    segmentation = Segmentation(config)
    told = []

    class Listening(Ranks):
        def gather_objects(self, value):
            told.append(value)
            return list(told)

    segmentation.scores(tcl, Listening(0, 2))
    shared = segmentation.scores(tcl, Listening(1, 2))
    assert shared == segmentation.scores(tcl, Ranks())
    assert sum(int(joint.sum()) for joint in told) == 5 * 44 * 60


def test_a_set_without_masks_is_refused(dataset):
    text = dataset.read_text().replace("masks: mask\n", "")
    dataset.write_text(text)
    with pytest.raises(TTDError, match="without masks"):
        Segmentation(EvalConfig(sets=(str(dataset),)))
