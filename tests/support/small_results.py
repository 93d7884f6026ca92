"""Results with awkward names for export: label maps, captions' masks and boxes over four images."""

import json

import numpy as np
from PIL import Image

from core.masks.class_list import LabelClass, write_classes
from core.masks.writer import save_mask

CLASSES = ("cat", 'a "dog" & <b>', "bus: red", "猫", "Cat", "never")
NAMES = ("a b.png", "ünï & <x>.jpg", "turned.jpg", "it's.webp", "nothing here.png")
SIZES = ((20, 30), (17, 23), (25, 12), (16, 16), (9, 33))  # [H, W] as seen


def photos(folder):
    """The images: one with EXIF's quarter turn, one of a format that few tools read."""
    folder.mkdir(parents=True)
    for k, (name, (height, width)) in enumerate(zip(NAMES, SIZES, strict=True)):
        noise = np.random.default_rng(k).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(noise)
        if name.startswith("turned"):
            exif = Image.Exif()
            exif[274] = 6  # turned a quarter to the left in the file
            image.rotate(90, expand=True).save(folder / name, exif=exif)
        else:
            image.save(folder / name)
    return folder


def label_maps():
    """By name: background 0, the classes 1 to 5 in blocks and specks, void 255 in a corner."""
    found = {}
    for k, (name, size) in enumerate(zip(NAMES, SIZES, strict=True)):
        rng = np.random.default_rng(10 + k)
        labels = np.zeros(size, np.uint8)
        if not name.startswith("nothing"):
            labels[: size[0] // 2, 2:] = 1 + k % 5
            labels[rng.random(size) < 0.2] = 1 + (k + 2) % 5
            labels[-2:, -3:] = 255
        found[name] = labels
    return found


def write_labels(place):
    """PLACE/photos and PLACE/made, a result as produce_masks_from_tags.py writes it."""
    photos(place / "photos")
    made = place / "made"
    made.mkdir()
    for name, labels in label_maps().items():
        save_mask(made / f"{name.rsplit('.', 1)[0]}.png", labels)
    classes = [LabelClass(0, "background", (), (0, 0, 0))]
    for value, name in enumerate(CLASSES, start=1):
        classes.append(LabelClass(value, name, (), (40 * value, 10, 200)))
    write_classes(made, classes)
    identity = {"classes": "x", "pictures": str(place / "photos")}
    (made / "protocol.json").write_text(json.dumps({"identity": identity}), encoding="utf-8")
    return made


BOXES = {
    "a b.png": [((2.5, 3.25, 10.0, 12.75), 'the "red" <b> & car'), ((0, 0, 30, 20), "sky\u2028x")],
    "turned.jpg": [((-3.0, 4.0, 5.5, 40.0), "sky\u2028x")],
}


def write_boxes(place, phrases=None):
    """PLACE/photos and PLACE/boxes.jsonl as produce_boxes_from_text.py writes it."""
    photos(place / "photos")
    lines = []
    for name, boxes in BOXES.items():
        for k, (box, text) in enumerate(boxes):
            row = {"id": f"{name}#{k}", "image": name, "text": text, "box": list(box)}
            lines.append(json.dumps(row) + "\n")
    (place / "boxes.jsonl").write_text("".join(lines), encoding="utf-8")
    meta = {"identity": {"root": str(place / "photos"), "phrases": phrases}}
    (place / "boxes.meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return place / "boxes.jsonl"


def by_hand(labels, value):
    """Box (left, top, width, height) and pixels of a label by a loop over all pixels."""
    places = [
        (x, y) for y, row in enumerate(labels.tolist()) for x, v in enumerate(row) if v == value
    ]
    xs, ys = [x for x, _ in places], [y for _, y in places]
    return (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1), len(places)
