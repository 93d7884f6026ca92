"""Small releases of multi-label sets: VOC, COCO and NUS-WIDE with images of one colour."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

VOC_IDS = ("000001", "000002", "000004", "000006")
# Of dog, cat and person in the four images; every other class is -1 everywhere.
VOC_MARKS = {"dog": (1, 0, -1, -1), "cat": (-1, 1, 1, 0), "person": (1, 1, -1, 0)}
COCO_LABELS = {7: [18, 18], 3: [1], 5: []}  # categories of the annotations by image id
NUS_LABELS = {"birds": (1, 0, 1), "sky": (0, 0, 1)}


def write_image(path: Path, seed: int) -> None:
    """Noise, 20 x 30 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_voc(root: Path, year: str = "VOC2007", split: str = "test", train: str = "trainval"):
    """VOCdevkit/YEAR below root."""
    from core.data.multilabel.voc import CLASSES

    place = root / "VOCdevkit" / year
    lists = place / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name in CLASSES:
        marks = VOC_MARKS.get(name, (-1,) * len(VOC_IDS))
        lines = [f"{key} {mark:2d}" for key, mark in zip(VOC_IDS, marks, strict=True)]
        (lists / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")
    (lists / f"{train}.txt").write_text("000009\n000012\n")
    for seed, key in enumerate((*VOC_IDS, "000009", "000012")):
        write_image(place / "JPEGImages" / f"{key}.jpg", seed)
    return place


def write_coco(root: Path) -> Path:
    """annotations/ and val2014/ below root."""
    (root / "annotations").mkdir(parents=True)
    images, annotations = [], []
    for key, categories in COCO_LABELS.items():
        name = f"COCO_val2014_{key:012d}.jpg"
        images.append({"id": key, "file_name": name, "height": 20, "width": 30})
        write_image(root / "val2014" / name, key)
        for category in categories:
            annotations.append({"image_id": key, "category_id": category, "iscrowd": 1})
    names = {1: "person", 18: "dog", 44: "bottle"}
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in names.items()],
    }
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    return root


def write_nus(root: Path) -> Path:
    """ImageList/, Groundtruth/ and Flickr/ below root."""
    folder = root / "Groundtruth" / "TrainTestLabels"
    folder.mkdir(parents=True)
    (root / "ImageList").mkdir()
    names = ["actor\\0001_21.jpg", "actor\\0002_22.jpg", "zoo\\0001_23.jpg"]
    (root / "ImageList" / "TestImagelist.txt").write_text("\r\n".join(names) + "\r\n")
    for seed, name in enumerate(names):
        write_image(root / "Flickr" / name.replace("\\", "/"), seed)
    for name, values in NUS_LABELS.items():
        text = "\n".join(map(str, values))
        (folder / f"Labels_{name}_Test.txt").write_text(f"{text}\n")
    return root
