"""Official releases, made small here or taken from photographs beside the repository, into the readers' layout."""

import importlib.util
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

from core.data.dataset_checks import check, read_truth
from core.data.dataset_yaml import load_shipped, voc_palette
from core.data.datasets import open_dataset
from core.data.mask_files import read_index
from core.data.prepare import make_plan, run_plan
from core.data.prepare.captions import flat_id
from core.data.prepare.coco import draw_instances
from core.data.records import open_records
from core.errors import TTDError
from core.evaluation.label_maps import evaluate

SHARED = ROOT.parent / "shared" / "data"
SIZE = (5, 7)
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "prepare_dataset", ROOT / "tools" / "prepare_dataset.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    return path


def mask(path: Path, values: np.ndarray, palette: bool = False) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image.putpalette(voc_palette().tobytes())
    image.save(path)
    return values


def values_of(labels) -> np.ndarray:
    """A label map of SIZE that holds every one of the labels (35 pixels)."""
    filled = np.resize(rng.permutation(np.asarray(labels)), SIZE)
    return filled.astype(np.uint8)


def make(name, source, root, **options):
    plan_options = {key: options.pop(key) for key in ("split", "objects", "to") if key in options}
    return run_plan(make_plan(name, source, root, **plan_options), workers=2, **options)


def result(name, root) -> dict[str, np.ndarray]:
    data = open_dataset(name, root)
    assert check(data) == []
    return {item.id: read_index(item.mask) for item in data.items()}


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


# Releases ---------------------------------------------------------------------------------------------------------


def voc_release(source: Path, ids=("2007_1", "2007_2")) -> dict[str, np.ndarray]:
    base = source / "VOCdevkit" / "VOC2012"
    truths = {}
    for number, key in enumerate((*ids, "unlisted")):
        picture(base / "JPEGImages" / f"{key}.jpg")
        labels = values_of([0, 255, *range(1 + 7 * number, min(21, 8 + 7 * number))])
        truths[key] = mask(base / "SegmentationClass" / f"{key}.png", labels, palette=True)
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(ids) + "\n")
    return {key: truths[key] for key in ids}


def test_voc_from_every_place_people_point_at(tmp_path):
    truths = voc_release(tmp_path / "s")
    for number, source in enumerate(("s", "s/VOCdevkit", "s/VOCdevkit/VOC2012")):
        root = tmp_path / f"r{number}"
        report = make("VOC2012", tmp_path / source, root)
        assert (report.made, report.kept, report.failed) == (2, 0, [])
        got = result("VOC2012", root)
        assert got.keys() == truths.keys() and all(
            np.array_equal(got[key], truths[key]) for key in truths
        )
        made = Image.open(root / "VOC2012/validation/mask/2007_1.png")
        assert made.mode == "P" and bytes(made.getpalette()) == voc_palette().tobytes()
        original = tmp_path / "s/VOCdevkit/VOC2012/JPEGImages/2007_1.jpg"
        assert (root / "VOC2012/validation/image/2007_1.jpg").read_bytes() == original.read_bytes()


def test_ade_values_as_they_are(tmp_path):
    base = tmp_path / "s" / "ADEChallengeData2016"
    picture(base / "images/validation/ADE_val_1.jpg")
    picture(base / "images/training/ADE_train_1.jpg")
    want = mask(base / "annotations/validation/ADE_val_1.png", values_of([0, 1, 8, 150]))
    mask(base / "annotations/training/ADE_train_1.png", values_of([3]))
    make("ADE2016", tmp_path / "s", tmp_path / "r")
    got = result("ADE2016", tmp_path / "r")
    assert list(got) == ["ADE_val_1"] and np.array_equal(got["ADE_val_1"], want)
    data = open_dataset("ADE2016", tmp_path / "r")
    assert set(np.unique(read_truth(data, data.items()[0]))) == {1, 8, 150, 255}
    make("ADE2016", base, tmp_path / "r", split="train")
    assert (tmp_path / "r/ADE2016/train/mask/ADE_train_1.png").is_file()


def cityscapes_release(source: Path, kind: str, labels) -> np.ndarray:
    picture(source / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    values = values_of(labels)
    mask(source / f"gtFine/val/ulm/ulm_000000_000019_gtFine_{kind}.png", values)
    mask(source / "gtFine/val/ulm/ulm_000000_000019_gtFine_instanceIds.png", values)
    return values


def test_cityscapes_label_ids_by_the_standard_table(tmp_path):
    raw = cityscapes_release(tmp_path / "s", "labelIds", range(34))
    make("Cityscapes", tmp_path / "s", tmp_path / "r")
    got = result("Cityscapes", tmp_path / "r")["ulm_000000_000019"]
    train = {
        7: "road",
        8: "sidewalk",
        11: "building",
        12: "wall",
        13: "fence",
        17: "pole",
        19: "traffic light",
        20: "traffic sign",
        21: "vegetation",
        22: "terrain",
        23: "sky",
        24: "person",
        25: "rider",
        26: "car",
        27: "truck",
        28: "bus",
        31: "train",
        32: "motorcycle",
        33: "bicycle",
    }
    classes = open_dataset("Cityscapes", tmp_path / "r").classes
    for value, label in zip(raw.ravel().tolist(), got.ravel().tolist(), strict=True):
        assert (classes[label] == train[value]) if value in train else label == 255
    assert (tmp_path / "r/Cityscapes/validation/image/ulm_000000_000019.png").is_file()


def test_cityscapes_train_ids_stay(tmp_path):
    want = cityscapes_release(tmp_path / "s", "labelTrainIds", [*range(19), 255])
    make("Cityscapes", tmp_path / "s", tmp_path / "r")
    assert np.array_equal(result("Cityscapes", tmp_path / "r")["ulm_000000_000019"], want)


STUFF_UNUSED = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}


def stuff_release(source: Path, labels) -> np.ndarray:
    picture(source / "val2017/000000000139.jpg")
    values = values_of(labels)
    mask(source / "stuffthingmaps/val2017/000000000139.png", values)
    mask(
        source / "stuffthingmaps/val2017/000000000139_labelTrainIds.png", values
    )  # of another project's converter
    return values


def test_coco_stuff_removes_the_gaps(tmp_path):
    used = [raw for raw in range(182) if raw not in STUFF_UNUSED]
    raw = stuff_release(tmp_path / "s", [0, 10, 12, 89, 91, 181, 255])
    make("COCO-Stuff", tmp_path / "s", tmp_path / "r")
    got = result("COCO-Stuff", tmp_path / "r")["000000000139"]
    assert got.tolist() == [
        [255 if v == 255 else used.index(v) for v in row] for row in raw.tolist()
    ]


def test_coco_objects_from_stuff_maps(tmp_path):
    things = [raw for raw in range(91) if raw not in STUFF_UNUSED]
    raw = stuff_release(tmp_path / "s", [0, 10, 12, 89, 91, 181, 255])
    plan = make_plan("COCO2014", tmp_path / "s", tmp_path / "r")
    assert "stuffthingmaps" in plan.about
    run_plan(plan)
    got = result("COCO2014", tmp_path / "r")["000000000139"]
    assert got.tolist() == [
        [things.index(v) + 1 if v in things else 0 for v in row] for row in raw.tolist()
    ]


def test_raw_values_that_cannot_be(tmp_path):
    stuff_release(tmp_path / "s", [11])
    report = make("COCO-Stuff", tmp_path / "s", tmp_path / "r")
    assert report.made == 0 and "value 11 is none of this release" in report.failed[0]


def instances(source: Path, annotations, size=(20, 30)) -> Path:
    (source / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(source / "images/7.jpg")
    content = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": size[0], "width": size[1]}],
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 32, "name": "tie"},
            {"id": 90, "name": "toothbrush"},
        ],
        "annotations": [
            {"image_id": 7, "id": k, "iscrowd": 0, **a} for k, a in enumerate(annotations)
        ],
    }
    (source / "instances.json").write_text(json.dumps(content))
    return source


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def test_coco_instances_smaller_on_top(tmp_path):
    small = {
        "category_id": 32,
        "segmentation": box(4, 4, 6, 8),
        "area": 9999,
    }  # the json's area is not used
    large = {"category_id": 1, "segmentation": box(2, 2, 12, 12), "area": 1}
    run_lengths = {
        "category_id": 90,
        "segmentation": {"size": [20, 30], "counts": [590, 10]},
        "iscrowd": 1,
        "area": 10,
    }
    for number, order in enumerate(([small, large, run_lengths], [run_lengths, large, small])):
        source = instances(tmp_path / f"s{number}", order)
        plan = make_plan("COCO2014", source, tmp_path / f"r{number}")
        assert "instances.json, smaller objects on top" in plan.about
        run_plan(plan)
        got = result("COCO2014", tmp_path / f"r{number}")["7"]
        want = np.zeros((20, 30), int)
        want[2:12, 2:12] = 1
        want[4:8, 4:6] = 28  # tie
        want[10:, 29] = 80
        assert got.tolist() == want.tolist()
        mark = json.loads((tmp_path / f"r{number}/COCO2014/validation/prepared.json").read_text())
        assert mark == {
            "set": "COCO2014",
            "split": "val",
            "made_from": "instances.json, smaller objects on top",
            "pictures": 1,
            "left_out": 0,
        }


def test_instances_and_stuff_are_not_mixed(tmp_path):
    source = instances(tmp_path / "s", [{"category_id": 1, "segmentation": box(0, 0, 5, 5)}])
    make("COCO2014", source, tmp_path / "r")
    stuff_release(source, [0, 91])
    with pytest.raises(
        TTDError, match="made from something else.*instances.json.*stuffthingmaps.*--overwrite"
    ):
        make("COCO2014", source, tmp_path / "r", objects="stuff")
    make("COCO2014", source, tmp_path / "r", objects="stuff", overwrite=True)
    assert (
        "stuff"
        in json.loads((tmp_path / "r/COCO2014/validation/prepared.json").read_text())["made_from"]
    )


def test_categories_of_another_json_are_refused(tmp_path):
    source = instances(tmp_path / "s", [])
    content = json.loads((source / "instances.json").read_text())
    content["categories"] = [{"id": 1, "name": "cat"}]
    (source / "instances.json").write_text(json.dumps(content))
    with pytest.raises(TTDError, match="category 1 'cat' is none of COCO's 80"):
        make_plan("COCO2014", source, tmp_path / "r")
    (source / "instances.json").write_text("{}")
    with pytest.raises(TTDError, match="no instances json"):
        make_plan("COCO2014", source, tmp_path / "r")


def context_release(source: Path) -> Path:
    base = source / "VOC2010"
    for key in ("a", "b"):
        picture(base / "JPEGImages" / f"{key}.jpg")
    (base / "ImageSets/Main").mkdir(parents=True)
    (base / "ImageSets/Main/val.txt").write_text("a -1\nb 1\nwithout_a_mask 1\n")
    return base


def test_pascal_context_459_classes(tmp_path):
    savemat = pytest.importorskip(
        "scipy.io", reason="scipy writes the .mat file of this test"
    ).savemat
    context_release(tmp_path / "s")
    (tmp_path / "s/trainval").mkdir()
    raw = np.resize(np.array([0, 1, 2, 9, 284, 431, 458, 459], np.uint16), SIZE)
    for key in ("a", "b"):
        savemat(tmp_path / f"s/trainval/{key}.mat", {"LabelMap": raw})
    make("PascalContext", tmp_path / "s", tmp_path / "r")
    got = result("PascalContext", tmp_path / "r")
    kept = {
        0: 0,
        2: 1,
        9: 2,
        284: 37,
        458: 59,
    }  # aeroplane, bag, person, wood; every other one is background
    assert list(got) == ["a", "b"]
    assert got["a"].tolist() == [[kept.get(v, 0) for v in row] for row in raw.tolist()]
    classes = load_shipped("PascalContext")["classes"]
    assert [classes[label - 1] for label in (1, 2, 37, 59)] == [
        "aeroplane",
        "bag",
        "person",
        "wood",
    ]


def test_pascal_context_converted_before(tmp_path):
    base = context_release(tmp_path / "s")
    want = mask(base / "SegmentationClassContext/a.png", values_of([0, 1, 59, 255]))
    make("PascalContext", tmp_path / "s", tmp_path / "r")
    assert np.array_equal(result("PascalContext", tmp_path / "r")["a"], want)


def test_scipy_is_asked_for_only_here(tmp_path, monkeypatch):
    import sys

    context_release(tmp_path / "s")
    (tmp_path / "s/trainval").mkdir()
    (tmp_path / "s/trainval/a.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    report = make("PascalContext", tmp_path / "s", tmp_path / "r")
    assert report.made == 0 and "need scipy: pip install scipy" in report.failed[0]


# Captions -----------------------------------------------------------------------------------------------------------


def shard(path: Path, pairs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, ending, data in pairs:
            info = tarfile.TarInfo(f"{key}.{ending}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_shards_of_img2dataset(tmp_path):
    data = [jpeg() for _ in range(3)]
    meta = json.dumps({"caption": "not this one", "url": "x"}).encode()
    shard(
        tmp_path / "s/00000.tar",
        [
            ("000000000", "jpg", data[0]),
            ("000000000", "json", meta),
            ("000000000", "txt", b"a dog, asleep"),
            ("000000001", "txt", b"no picture"),
        ],
    )
    shard(
        tmp_path / "s/00001.tar",
        [
            ("000010000", "jpg", data[1]),
            ("000010000", "txt", "ein Fuß".encode()),
            ("000010001", "jpg", data[2]),
            ("000010001", "txt", b"  "),
        ],
    )
    report = make("CC12M", tmp_path / "s", tmp_path / "r", split="train")
    assert report.made == 2 and len(report.failed) == 2
    for reason in ("no image", "empty caption"):
        assert any(reason in line for line in report.failed)
    out = tmp_path / "r/cc12m/train"
    assert (out / "image/000000000.jpg").read_bytes() == data[0]
    assert json.loads((out / "json/000010000.json").read_text(encoding="utf-8")) == {
        "text": "ein Fuß"
    }
    records = list(open_records(out).iterate())
    assert [record.text for record in records] == ["a dog, asleep", "ein Fuß"]


def test_folders_of_img2dataset(tmp_path):
    for key in ("00000/000000003", "00001/000010000"):
        picture(tmp_path / "s" / f"{key}.jpg")
        (tmp_path / "s" / f"{key}.txt").write_text(f"text {key}")
        (tmp_path / "s" / f"{key}.json").write_text(json.dumps({"caption": f"text {key}"}))
    make("CC3M", tmp_path / "s", tmp_path / "r")
    found = sorted(path.name for path in (tmp_path / "r/cc3m/validation/json").iterdir())
    assert found == ["000000003.json", "000010000.json"]
    assert (
        flat_id("00012/000120007") == "000120007"
        and flat_id("x/1") == "x_1"
        and flat_id("7") == "7"
    )


# Running ------------------------------------------------------------------------------------------------------------


def test_again_changes_nothing_and_a_broken_run_goes_on(tmp_path):
    voc_release(tmp_path / "s")
    make("VOC2012", tmp_path / "s", tmp_path / "r")
    before = files(tmp_path / "r/VOC2012/validation/mask") | files(
        tmp_path / "r/VOC2012/validation/image"
    )
    report = make("VOC2012", tmp_path / "s", tmp_path / "r")
    assert (report.made, report.kept) == (0, 2)
    after = files(tmp_path / "r/VOC2012/validation/mask") | files(
        tmp_path / "r/VOC2012/validation/image"
    )
    assert before == after
    gone = tmp_path / "r/VOC2012/validation/mask/2007_2.png"
    want = gone.read_bytes()
    gone.unlink()
    (gone.parent / ".2007_2.png.part").write_bytes(want[:20])  # what a kill leaves
    report = make("VOC2012", tmp_path / "s", tmp_path / "r")
    assert (report.made, report.kept) == (1, 1) and gone.read_bytes() == want
    assert not list((tmp_path / "r").rglob(".*.part"))


def test_nothing_half_when_the_disk_is_full(tmp_path, monkeypatch):
    voc_release(tmp_path / "s")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    plan = make_plan("VOC2012", tmp_path / "s", tmp_path / "r")
    (tmp_path / "r/VOC2012/validation").mkdir(parents=True)
    (tmp_path / "r/VOC2012/validation/prepared.json").write_text(json.dumps(plan.identity))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        TTDError, match="No space left on device.*resumes where it stopped"
    ) as caught:
        run_plan(plan)
    assert "\n" not in str(caught.value) and not list((tmp_path / "r").rglob("mask/*"))
    monkeypatch.undo()
    assert run_plan(make_plan("VOC2012", tmp_path / "s", tmp_path / "r")).made == 2


def test_hard_links(tmp_path):
    voc_release(tmp_path / "s")
    original = tmp_path / "s/VOCdevkit/VOC2012/JPEGImages/2007_1.jpg"
    for link in (False, True, True):
        root = tmp_path / f"r{link}"
        make("VOC2012", tmp_path / "s", root, link=link, overwrite=True)
        made = root / "VOC2012/validation/image/2007_1.jpg"
        assert (
            os.path.samefile(made, original) == link and made.read_bytes() == original.read_bytes()
        )
    assert not list(tmp_path.rglob(".*.part"))


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    voc_release(tmp_path / "s")
    own = tmp_path / "r/VOC2012/validation/mask/mine.png"
    mask(own, values_of([1]))
    before = own.read_bytes()
    with pytest.raises(TTDError, match="not made by this tool"):
        make("VOC2012", tmp_path / "s", tmp_path / "r")
    assert own.read_bytes() == before


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("VOC2012", "JPEGImages/ and SegmentationClass/.*there is: readme"),
        ("ADE2016", "images/ and annotations/"),
        ("Cityscapes", "leftImg8bit/val/"),
        ("COCO2014", "instances_val2014.json.*nor stuffthingmaps"),
        ("COCO-Stuff", "stuffthingmaps/val2017"),
        ("PascalContext", "JPEGImages"),
        ("VOC20", "prepare that"),
        ("World", "no converter.*YAML"),
    ],
)
def test_what_was_looked_for_is_said(tmp_path, name, wanted):
    (tmp_path / "readme").write_text("x")
    with pytest.raises(TTDError, match=wanted) as caught:
        make_plan(name, tmp_path, tmp_path / "r")
    assert "\n" not in str(caught.value)
    with pytest.raises(TTDError):
        make_plan(name, tmp_path / "absent", tmp_path / "r")


def test_an_empty_or_absent_list_names_the_others(tmp_path):
    voc_release(tmp_path)
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    with pytest.raises(
        TTDError, match=r"train.txt.*No such file.*there are val: choose one with --split"
    ):
        make_plan("VOC2012", tmp_path, tmp_path / "r", split="train")
    (lists / "val.txt").rename(lists / "trainaug.txt")
    (lists / "val.txt").write_text("\n")
    with pytest.raises(
        TTDError, match=r"val.txt: an empty list; there are trainaug: choose one with --split"
    ):
        make_plan("VOC2012", tmp_path, tmp_path / "r")


# The command, and photographs
# ---------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(tmp_path, script, capsys):
    voc_release(tmp_path / "s")
    arguments = ["VOC2012", "--source", str(tmp_path / "s"), "--root", str(tmp_path / "r")]
    assert script.main(arguments) == 0
    assert "2 made, 0 there already, 0 left out" in capsys.readouterr().out
    (tmp_path / "s/VOCdevkit/VOC2012/SegmentationClass/2007_1.png").unlink()
    assert script.main([*arguments, "--overwrite"]) == 2
    captured = capsys.readouterr()
    assert (
        "1 left out" in captured.out
        and "2007_1: " in captured.err
        and "no such file" in captured.err
    )


def sample(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {name} beside the repository")
    return SHARED / name


def perfect_is_100(name: str, root: Path) -> None:
    """The masks themselves are a perfect prediction; moved down by a tenth they are not."""
    data = open_dataset(name, root)
    assert evaluate(data, data.masks).scores.means == (1, 0, 0)
    moved = root / "moved"
    for item in data.items():
        labels = read_index(item.mask)
        mask(moved / item.mask.name, np.roll(labels, len(labels) // 10, axis=0))
    iou, fpr, fnr = evaluate(data, moved).scores.means
    assert 0.2 < iou < 0.95 and iou + fpr + fnr == pytest.approx(1)


def test_photographs_of_voc(tmp_path):
    source = sample("voc_mini")
    make("VOC2012", source, tmp_path, split="trainaug", to="validation")
    got = result("VOC2012", tmp_path)
    perfect_is_100("VOC2012", tmp_path)
    assert len(got) == 3
    for key, labels in got.items():
        original = np.asarray(Image.open(source / "SegmentationClass" / f"{key}.png"))
        assert np.array_equal(labels, original)


def test_photographs_of_ade(tmp_path):
    make("ADE2016", sample("ade_mini"), tmp_path)
    got = result("ADE2016", tmp_path)
    perfect_is_100("ADE2016", tmp_path)
    classes = open_dataset("ADE2016", tmp_path).classes
    assert {classes[label - 1] for label in np.unique(got["ADE_val_00000001"]) if label} >= {
        "building",
        "sky",
        "grass",
    }


def test_photographs_of_coco(tmp_path):
    source = sample("coco_mini")
    make("COCO2014", source, tmp_path, link=True)
    got = result("COCO2014", tmp_path)
    content = json.loads((source / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    classes = open_dataset("COCO2014", tmp_path).classes
    assert len(got) == len(content["images"])
    for item in content["images"][:10]:
        labels = got[Path(item["file_name"]).stem]
        stated = {
            names[a["category_id"]] for a in content["annotations"] if a["image_id"] == item["id"]
        }
        drawn = {classes[label - 1] for label in np.unique(labels) if label}
        assert (
            labels.shape == (item["height"], item["width"])
            and drawn <= stated
            and len(drawn) >= len(stated) - 1
        )


def test_no_annotations_is_all_background():
    assert not draw_instances([], 3, 4).any()
