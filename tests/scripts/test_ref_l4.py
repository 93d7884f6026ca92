"""evaluate_grounding.py --ref-l4: boxes of a file against numbers by hand, and wrong files."""

import json

import pytest

import evaluate_grounding as script
from core.data.phrases.ref_l4 import read_annotations
from core.errors import TTDError

# A box of 100, 200 and 300 pixels on a side; the last two are of one class after mapping.
ROWS = [
    {"id": "000000", "caption": "a", "bbox": [0, 0, 100, 100], "ori_category_id": "o365_7"},
    {"id": "000001", "caption": "b", "bbox": [50, 0, 200, 200], "ori_category_id": "refcoco_1"},
    {"id": "000002", "caption": "c", "bbox": [0, 10, 300, 300], "ori_category_id": "o365_1"},
]
# Right, IoU 0.5 exactly, IoU 0.8.
BOXES = [
    {"id": "000002", "pred_bbox": [0, 10, 300, 240], "format": "xywh"},
    {"id": "000001", "pred_bbox": [50, 0, 250, 100], "format": "xyxy"},
    {"id": "000000", "pred_bbox": [0, 0, 100, 100], "format": "xyxy"},
]


@pytest.fixture
def files(tmp_path):
    rows = [{**row, "file_name": "x.jpg", "height": 400, "width": 400} for row in ROWS]
    (tmp_path / "ref-l4-val.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "boxes.json").write_text(json.dumps(BOXES))
    return tmp_path


def arguments(files):
    own = ["--ref-l4", str(files / "ref-l4-val.jsonl"), "--predictions", str(files / "boxes.json")]
    return [*own, "--device", "cpu", "--json", str(files / "o.json")]


def test_numbers_by_hand(files, capsys):
    assert script.main(arguments(files)) == 0
    scores = json.loads((files / "o.json").read_text())["scores"]
    assert scores["acc@0.5"] == pytest.approx(2 / 3)  # IoU 0.5 does not count
    assert scores["acc@0.75"] == pytest.approx(2 / 3) and scores["acc@0.9"] == pytest.approx(1 / 3)
    assert scores["macc"] == pytest.approx((10 + 6) / 30)  # 0.8 is above 0.50 to 0.75
    assert (scores["small_acc@0.5"], scores["medium_acc@0.5"], scores["large_acc@0.5"]) == (1, 0, 1)
    assert scores["class_acc@0.5"] == 0.75 and scores["class_macc"] == pytest.approx(0.65)
    out = capsys.readouterr().out
    assert "Ref-L4: 3 phrases" in out and "81.70" in out


def test_of_a_mask_its_box_is_scored(files):
    # Columns 0 and 99 of 400 pixels each, 100 pixels down from the top.
    counts = [0, 100, 400 * 99 - 100, 100, 400 * 301 - 100]
    mask = {"size": [400, 400], "counts": counts}
    (files / "boxes.json").write_text(
        json.dumps([*BOXES[:2], {"id": "000000", "segmentation": mask}])
    )
    script.main(arguments(files))
    assert json.loads((files / "o.json").read_text())["scores"]["small_macc"] == 1.0


def test_parquet_gives_the_same(files):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = [json.loads(line) for line in (files / "ref-l4-val.jsonl").read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), files / "v.parquet")
    found = read_annotations([files / "v.parquet"])
    assert found == read_annotations([files / "ref-l4-val.jsonl"])


def test_a_parquet_file_that_is_none(files):
    (files / "v.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TTDError, match="pyarrow|cannot be read"):
        read_annotations([files / "v.parquet"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [0, 0, -1, 5]}, "x, y, width, height"),
        ({"bbox": [0, 0, float("nan"), 5]}, "four numbers"),
        ({"file_name": "../x.jpg"}, "leaves the folder"),
        ({"caption": ""}, "wanted are rows of Ref-L4"),
        ({"id": "000001"}, "an id occurs twice"),
    ],
)
def test_annotations_that_are_wrong(files, change, message):
    path = files / "ref-l4-val.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **change}), *rest]))
    with pytest.raises(TTDError, match=message):
        script.main(arguments(files))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (BOXES[:2], r"no box for 1 ids \(000000\)"),
        ([*BOXES, BOXES[0]], "is there twice"),
        ([{**BOXES[0], "format": "cxcywh"}, *BOXES[1:]], "xyxy or xywh"),
        ([{**BOXES[0], "pred_bbox": [1, 2]}, *BOXES[1:]], "four numbers"),
        ({"000000": []}, "wanted is"),
    ],
)
def test_predictions_that_are_wrong(files, boxes, message):
    (files / "boxes.json").write_text(json.dumps(boxes))
    with pytest.raises(TTDError, match=message):
        script.main(arguments(files))


def test_one_of_the_two(files):
    with pytest.raises(TTDError, match="one of the two"):
        script.main(["--ref-l4", str(files / "ref-l4-val.jsonl"), "--device", "cpu"])
    with pytest.raises(TTDError, match="goes with --ref-l4"):
        script.main(["--predictions", "x.json", "--device", "cpu"])
