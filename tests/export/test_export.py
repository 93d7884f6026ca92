"""Exports: what the files say, by hand; names that break XML, lists and paths; same bytes."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import export_results
import numpy as np
import pytest
from PIL import Image
from small_results import BOXES, CLASSES, NAMES, by_hand, label_maps, write_boxes, write_labels

from core.data.labels.rle import decode
from core.errors import TTDError
from core.export import FORMATS
from core.export.brush import brush_rle
from core.export.formats import export, open_source
from core.export.names import distinct, file_stem, plain_label, visible_label


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All formats of the label maps: the folder that holds them, by format."""
    place = tmp_path_factory.mktemp("made")
    result = write_labels(place)
    assert export_results.main([str(result), "--format", *FORMATS]) == 0
    return result / "export"


def read_coco(made):
    return json.loads((made / "coco/annotations/instances_default.json").read_text("ascii"))


def test_coco_says_what_the_masks_say(made):
    content = read_coco(made)
    names = [one["name"] for one in content["categories"]]
    assert names == ["cat", 'a "dog" & <b>', "bus: red", "猫", "Cat (2)", "never"]
    assert [one["id"] for one in content["categories"]] == [1, 2, 3, 4, 5, 6]
    images = {one["id"]: one for one in content["images"]}
    assert sorted(one["file_name"] for one in images.values()) == sorted(NAMES)
    truth, seen = label_maps(), set()
    for number, one in enumerate(content["annotations"], start=1):
        image = images[one["image_id"]]
        labels, value = truth[image["file_name"]], one["category_id"]
        assert (image["height"], image["width"]) == labels.shape
        box, area = by_hand(labels, value)
        assert tuple(one["bbox"]) == box and one["area"] == area and one["iscrowd"] == 0
        assert (decode(one["segmentation"]) == (labels == value)).all()
        assert one["id"] == number
        seen.add((image["file_name"], value))
    every = {(n, v) for n, a in truth.items() for v in np.unique(a).tolist() if v not in (0, 255)}
    assert seen == every


def test_voc_has_boxes_from_one_and_void(made):
    folder, truth = made / "voc", label_maps()
    stems = (folder / "ImageSets/Segmentation/default.txt").read_text("utf-8").split()
    assert stems == ["a_b", "it's", "nothing_here", "turned", "ünï_&__x_"]
    labels = [line.split(":")[0] for line in (folder / "labelmap.txt").read_text().split("\n")]
    want = ["cat", "a_dog_b", "bus_red", "猫", "Cat_(2)", "never"]
    assert labels[1:-1] == ["background", *want, "ignored"]
    by_name = {"a_b": "a b.png", "it's": "it's.webp", "turned": "turned.jpg"}
    for stem, name in by_name.items():
        mask = Image.open(folder / "SegmentationClass" / f"{stem}.png")
        assert mask.mode == "P" and (np.asarray(mask) == truth[name]).all()
        root = ET.parse(folder / "Annotations" / f"{stem}.xml").getroot()
        file = folder / "JPEGImages" / root.findtext("filename")
        assert Image.open(file).size == mask.size and file.stem == stem
        assert (int(root.findtext("size/width")), int(root.findtext("size/height"))) == mask.size
        values = [value for value in np.unique(truth[name]).tolist() if value not in (0, 255)]
        for node, value in zip(root.findall("object"), values, strict=True):
            (left, top, wide, high), _ = by_hand(truth[name], value)
            box = [int(node.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
            assert box == [left + 1, top + 1, left + wide, top + high]
    assert not ET.parse(folder / "Annotations/nothing_here.xml").findall("object")


def test_copies_are_upright_and_otherwise_the_same_bytes(made):
    photos, copies = made.parents[1] / "photos", made / "supervision/images"
    assert (copies / "a_b.png").read_bytes() == (photos / "a b.png").read_bytes()
    turned = Image.open(copies / "turned.png")
    assert turned.size == (12, 25) and not turned.getexif().get(274)
    assert sorted(p.suffix for p in copies.iterdir()) == [".jpg", ".png", ".png", ".png", ".png"]


def test_label_studio_tasks_name_images_and_classes(made):
    tasks = json.loads((made / "label-studio/tasks.json").read_text("ascii"))
    urls = [one["data"]["image"] for one in tasks]
    assert "/data/local-files/?d=%C3%BCn%C3%AF%20%26%20%3Cx%3E.jpg" in urls
    root = ET.fromstring((made / "label-studio/interface.xml").read_text("utf-8"))
    values = [node.get("value") for node in root.find("BrushLabels")]
    assert values == ["cat", 'a "dog" & <b>', "bus: red", "猫", "Cat (2)", "never"]
    ids = [region["id"] for one in tasks for region in one["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids) > 5


def unpack(numbers):
    """Label Studio's run lengths by its description, bit for bit."""
    text = "".join(f"{number:08b}" for number in numbers)
    place = 0

    def take(size):
        nonlocal place
        place += size
        return int(text[place - size : place], 2)

    count, word = take(32), take(5) + 1
    sizes, values = [take(4) + 1 for _ in range(4)], []
    while len(values) < count:
        repeated, size = take(1), sizes[take(2)]
        length = take(size) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    assert len(text) - place < 8
    return np.array(values)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (150, 130)])
def test_brush_strokes_come_back(share, size):
    mask = np.random.default_rng(3).random(size) < share
    if size[0] > 100:
        mask[40:] = False  # a run that is longer than 65,536 values
    values = unpack(brush_rle(mask)).reshape(*size, 4)
    assert (values == 255 * mask[..., None]).all()


def test_boxes_of_phrases(tmp_path, capsys):
    result = write_boxes(tmp_path)
    assert export_results.main([str(result), "--format", *FORMATS]) == 0
    folder = tmp_path / "boxes.export"
    content = json.loads((folder / "coco/annotations/instances_default.json").read_text())
    assert [one["name"] for one in content["categories"]] == ["object"]
    assert [one["bbox"] for one in content["annotations"]] == [
        [2.5, 3.25, 7.5, 9.5], [0, 0, 30, 20], [0, 4, 5.5, 21],
    ]  # fmt: skip
    assert content["annotations"][0]["caption"] == BOXES["a b.png"][0][1]
    assert content["annotations"][0]["area"] == 71.25
    tasks = json.loads((folder / "label-studio/tasks.json").read_text())
    value = tasks[0]["predictions"][0]["result"][0]["value"]
    assert value["x"] == pytest.approx(100 * 2.5 / 30) and value["width"] == 25.0
    assert value["y"] == pytest.approx(100 * 3.25 / 20) and value["height"] == 47.5
    root = ET.parse(folder / "voc/Annotations/a_b.xml").getroot()
    box = root.find("object/bndbox")
    assert [int(node.text) for node in box] == [3, 4, 10, 13]
    assert not (folder / "voc/SegmentationClass").exists()


def test_phrases_that_were_asked_of_every_image_are_classes(tmp_path):
    asked = ["sky\u2028x", 'the "red" <b> & car']
    source = open_source(write_boxes(tmp_path, asked))
    assert [one.name for one in source.categories] == ["sky_x", 'the "red" <b> & car']
    numbers = [[r.category.id for r in source.regions(one)] for one in source.pictures]
    assert numbers == [[2, 1], [1]]


def test_a_phrase_that_is_the_word_object_takes_no_other_boxes(tmp_path):
    asked = ["object", "sky\u2028x", 'the "red" <b> & car']
    source = open_source(write_boxes(tmp_path, asked))
    numbers = [[r.category.id for r in source.regions(one)] for one in source.pictures]
    assert numbers == [[3, 2], [2]]


def test_captions_of_one_image_are_one_image(tmp_path):
    """Two captions of an image: one image, two annotations, each with its caption."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8)).save(tmp_path / "p.png")
    row = {"image": "p.png", "captions": ["a dog", "a tree"]}
    (tmp_path / "list.jsonl").write_text(json.dumps(row) + "\n")
    from core.data.records import open_records

    made = tmp_path / "made"
    made.mkdir()
    for k, record in enumerate(open_records(tmp_path / "list.jsonl").iterate()):
        mask = np.zeros((8, 9), np.uint8)
        mask[k : k + 2] = 255
        Image.fromarray(mask).save(made / f"{record.id.replace('/', '_')}.png")
    identity = {"tags": "caption", "pictures": str(tmp_path / "list.jsonl")}
    (made / "protocol.json").write_text(json.dumps({"identity": identity}))
    export("coco", open_source(made), tmp_path / "out")
    content = json.loads((tmp_path / "out/annotations/instances_default.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["p.png"]
    assert [one["caption"] for one in content["annotations"]] == ["a dog", "a tree"]
    assert [one["category_id"] for one in content["annotations"]] == [1, 1]
    assert content["categories"][0]["name"] == "foreground"
    export("voc", open_source(made), tmp_path / "voc")
    union = np.asarray(Image.open(tmp_path / "voc/SegmentationClass/p.png"))
    assert union[:3].all() and not union[3:].any() and union.max() == 1


def test_the_same_result_gives_the_same_bytes(made):
    source = open_source(made.parent)
    for form in FORMATS:
        again = made.parent / "again" / form
        export(form, source, again)
        assert tree(again) == tree(made / form)


def test_what_a_kill_has_left_is_gone_after_the_next_export(tmp_path):
    result = write_labels(tmp_path)
    out = tmp_path / "voc"
    (out / "JPEGImages").mkdir(parents=True)
    for part in (out / ".labelmap.txt.12ab.part", out / "JPEGImages/.x.jpg.12ab.part"):
        part.write_bytes(b"half")
    export("voc", open_source(result), out)
    assert not list(out.rglob("*.part")) and (out / "labelmap.txt").is_file()


def test_a_result_without_masks_is_empty_in_every_format(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/protocol.json").write_text("{}")
    assert export_results.main([str(tmp_path / "made"), "--format", *FORMATS]) == 0
    content = read_coco(tmp_path / "made/export")
    assert content["images"] == content["annotations"] == []
    assert json.loads((tmp_path / "made/export/label-studio/tasks.json").read_text()) == []


def test_what_cannot_be_exported_is_said(tmp_path, capsys):
    result = write_labels(tmp_path)
    (tmp_path / "photos" / "it's.webp").write_bytes(b"RIFF damaged")
    (tmp_path / "photos" / "a b.png").unlink()
    Image.fromarray(np.full((9, 33), 77, np.uint8)).save(result / "nothing here.png")
    assert export_results.main([str(result), "--format", "coco"]) == 2
    said = capsys.readouterr().err
    assert "it's.webp: cannot be read as an image" in said
    assert "label 77 is no class of classes.json" in said and "1 images are not found" in said
    assert len(read_coco(result / "export")["images"]) == 2
    with pytest.raises(TTDError, match="no such folder"):
        export_results.main([str(tmp_path / "gone"), "--format", "coco"])
    (tmp_path / "file").write_text("")
    with pytest.raises(TTDError, match="cannot be written"):
        export("coco", open_source(result), tmp_path / "file" / "x")


def test_an_image_that_ends_too_early_is_left_out_alone(tmp_path, capsys):
    result = write_labels(tmp_path)
    photo = tmp_path / "photos" / "it's.webp"
    photo.write_bytes(photo.read_bytes()[:200])  # its header is whole
    assert export_results.main([str(result), "--format", "supervision", "coco"]) == 2
    assert "left out: it's.webp" in capsys.readouterr().err  # coco needs its header alone
    folder = result / "export/supervision"
    content = json.loads((folder / "annotations.json").read_text())
    names = sorted(one["file_name"] for one in content["images"])
    assert names == sorted(path.name for path in (folder / "images").iterdir()) and len(names) == 4


@pytest.mark.parametrize("row", [
    {"box": [1e308, -1e308, 5, 5]}, {"box": [9, 9, 2, 2]}, {"image": "../../etc/passwd"},
    {"image": "\u0000"}, {"image": "x" * 5000}, {"text": ""}, {"id": ""},
])  # fmt: skip
def test_boxes_of_strangers_are_cut_left_out_or_refused(tmp_path, row):
    result = write_boxes(tmp_path)
    line = {"id": "s", "image": "a b.png", "text": "t", "box": [1, 2, 3, 4], **row}
    result.write_text(result.read_text() + json.dumps(line) + "\n")
    assert export_results.main([str(result), "--format", *FORMATS]) in (0, 2)
    content = json.loads((tmp_path / "boxes.export/supervision/annotations.json").read_text())
    for one in content["annotations"]:
        assert all(0 <= value <= 30 for value in one["bbox"])


def test_sets_whose_first_class_is_label_0(tmp_path):
    result = write_labels(tmp_path)
    content = [{"id": 0, "name": "road", "color": [1, 2, 3]}]
    content += [{"id": k, "name": f"c{k}", "color": [k, k, k]} for k in range(1, 6)]
    (result / "classes.json").write_text(json.dumps(content))
    source = open_source(result)
    assert [(one.id, one.value) for one in source.categories] == [(k + 1, k) for k in range(6)]
    export("voc", source, tmp_path / "voc")
    truth = label_maps()["a b.png"]
    got = np.asarray(Image.open(tmp_path / "voc/SegmentationClass/a_b.png"))
    assert (got == np.where(truth == 255, 255, truth + 1)).all()


def test_classes_that_are_called_like_vocs_own_labels_are_told_apart(tmp_path):
    """Two rows of one name in labelmap.txt: readers take the colour of the last."""
    result = write_labels(tmp_path)
    text = (result / "classes.json").read_text("utf-8").replace('"never"', '"ignored"')
    (result / "classes.json").write_text(text.replace('"cat"', '"Background"'), "utf-8")
    export("voc", open_source(result), tmp_path / "voc")
    rows = (tmp_path / "voc/labelmap.txt").read_text("utf-8").splitlines()[1:]
    names = [row.split(":")[0] for row in rows]
    assert len(set(names)) == len(names) == 8
    assert names[1] == "Background-2" and names[-2:] == ["ignored-2", "ignored"]


@pytest.mark.parametrize("box", ['["1", 2, 3, 4]', '"1234"', f"[1, 2, 3, 1{'0' * 400}]"])
def test_boxes_that_are_no_numbers_are_one_line(tmp_path, box):
    result = write_boxes(tmp_path)
    line = f'{{"id": "s", "image": "a b.png", "text": "t", "box": {box}}}\n'
    result.write_text(result.read_text() + line)
    with pytest.raises(TTDError, match="boxes.jsonl:[0-9]+: not a line of boxes"):
        open_source(result)


def test_names():
    assert distinct(["a", "A", "a", "b"]) == ["a", "A-2", "a-3", "b"]
    assert file_stem("../../etc/x y.jpg") == "_._.._etc_x_y" and file_stem("a/b.c.d") == "a_b.c"
    assert file_stem("") == "_" and len(file_stem("x" * 999).encode()) <= 200
    assert plain_label("a:b, #c\n") == "a_b_c" and plain_label("::") == "_"
    assert visible_label("a\x1b[2J\n b\ud800\uffff") == "a_[2J b__" and len(CLASSES) == 6
