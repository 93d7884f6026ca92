"""The simulated detector: as wrong as it says, and a scene file that is read."""

import json

import numpy as np
import pytest

from core.grounding.pseudo_labels.scenes import parse_scene
from core.metrics.boxes import box_iou
from core.world.refer.detector import Noise, scene_row
from core.world.refer.expressions import make_refer_sample
from core.world.refer.writer import ReferConfig, make_refer_world

NONE = Noise(0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def samples():
    return [make_refer_sample(2, "train", index, 64) for index in range(150)]


def test_without_noise_it_tells_the_truth(samples):
    for sample in samples[:40]:
        scene = parse_scene(scene_row(sample, 0, NONE), "row")
        things = sample.contents.things
        assert [(o.label, o.attribute) for o in scene.objects] == [
            (t.noun, t.colour) for t in things
        ]
        assert [o.box for o in scene.objects] == [tuple(map(float, b)) for b in sample.boxes]
        nouns = {t.noun for t in things}
        words = set(scene.captions[0].split())
        assert words & nouns


def test_relations_hold(samples):
    checked = 0
    for sample in samples[:60]:
        for row in scene_row(sample, 0, NONE)["relations"]:
            first, second = row["subject_box"], row["object_box"]
            x = (first[0] + first[2]) - (second[0] + second[2])
            y = (first[1] + first[3]) - (second[1] + second[3])
            sign = {"left of": -x, "right of": x, "above": -y, "below": y}[row["predicate"]]
            assert sign > 0
            checked += 1
    assert checked > 100


def test_it_is_as_wrong_as_it_says(samples):
    noise, seen, wrong, off, total, overlaps = Noise(), 0, 0, 0, 0, []
    for sample in samples:
        total += len(sample.contents.things)
        truth = {
            tuple(map(float, b)): t
            for b, t in zip(sample.boxes, sample.contents.things, strict=True)
        }
        for item in scene_row(sample, 0, noise)["objects"]:
            boxes = np.array(list(truth))
            ious = box_iou(np.repeat([item["box"]], len(boxes), 0), boxes)
            thing = list(truth.values())[int(ious.argmax())]
            overlaps.append(ious.max())
            seen, wrong = seen + 1, wrong + (item["label"] != thing.noun)
            off += item["attribute"] != thing.colour
    assert seen / total == pytest.approx(1 - noise.missed, abs=0.05)
    assert wrong / seen == pytest.approx(noise.wrong_class, abs=0.06)
    assert off / seen == pytest.approx(noise.wrong_colour, abs=0.06)
    assert 0.65 < np.mean(overlaps) < 0.9


def test_the_same_image_says_the_same(samples):
    assert scene_row(samples[3], 1) == scene_row(samples[3], 1) != scene_row(samples[3], 2)


def test_the_files_are_of_the_training_images(tmp_path):
    make_refer_world(tmp_path, ReferConfig(train=5, val=2, size=64))
    scenes = [json.loads(line) for line in (tmp_path / "refer/scenes.jsonl").open()]
    captions = [json.loads(line) for line in (tmp_path / "refer/captions.jsonl").open()]
    names = [f"train_{index:06d}.jpg" for index in range(5)]
    assert [row["file"] for row in scenes] == [row["image"] for row in captions] == names
