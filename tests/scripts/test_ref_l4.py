"""evaluate_grounding.py --ref-l4: boxes of a file against numbers by hand, and wrong files."""

import json
import re

import numpy as np
import pytest
from harmless_page import HOSTILE, check_harmless
from paths import ROOT
from PIL import Image

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


def report_of(files, capsys, *more):
    """The page of --report, read and harmless, its source, and what was printed."""
    page = files / "page.html"
    assert script.main([*arguments(files), "--report", str(page), *more]) == 0
    source = page.read_text(encoding="utf-8")
    assert str(files) not in source
    return check_harmless(source), source, capsys.readouterr().out


def pictures(reader):
    return sum(name == "img" for name, _ in reader.elements)


def test_the_page(files, capsys):
    """Bars by size and the score as by hand; a box at IoU 0.5 exactly is wrong on the page, too."""
    reader, source, said = report_of(files, capsys)
    assert "Ref-L4: 3 phrases" in said and "report: " in said
    assert '<b class="value">66.7</b>' in source
    sizes = source[source.index("Size of the box") : source.index("<h2>Classes")]
    assert re.findall(r'class="value">([\d.]+)<', sizes) == ["100.0", "0.0", "100.0"]
    assert "medium, 128 to 256 pixels" in sizes and "CogVLM-Grounding" in source
    (o365_1,) = re.findall(r"<td>o365_1</td><td>2</td><td>([\d.]+)</td><td>([\d.]+)</td>", source)
    assert o365_1 == ("50.0", "30.0")  # IoU 0.5 and 0.8: of ten thresholds none and six
    assert pictures(reader) == 0 and source.count("The image was not found.") == 3


def test_the_page_has_images_where_they_are(files, capsys):
    """Hostile phrases stay text; boxes beyond the image, or turned, are drawn inside of it."""
    (files / "images").mkdir()
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(files / "images/x.jpg")
    path = files / "ref-l4-val.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    evil = HOSTILE.replace("\ud800", "")
    path.write_text("\n".join(json.dumps({**row, "caption": evil}) for row in rows))
    turned = {"id": "000000", "pred_bbox": [900, 300, -1e5, 5], "format": "xyxy"}
    (files / "earlier.json").write_text(json.dumps([*BOXES[:2], turned]))
    reader, source, said = report_of(files, capsys, "--against", str(files / "earlier.json"))
    assert "+33.3 points" in said and "+33.3" in source  # the first of three became right
    assert pictures(reader) == 3 + 1 and "Most changed" in source


def test_a_model_gives_a_page(files, capsys, tmp_path):
    (files / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(files / "images/x.jpg")
    own = ["--ref-l4", str(files / "ref-l4-val.jsonl"), "--device", "cpu"]
    own += [
        "--grounder",
        str(ROOT / "weights/tiny-grounder/model.safetensors"),
        "--pred",
        str(tmp_path / "made"),
    ]
    assert script.main([*own, "--report", str(tmp_path / "a.html")]) == 0
    said = capsys.readouterr().out
    score = re.search(r"acc@0.5 +([\d.]+)", said)[1]
    page = check_harmless((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert pictures(page) == 3 and f"{float(score):.1f}" in page.said


def test_against_needs_every_box_and_costs_no_number(files, capsys):
    (files / "earlier.json").write_text(json.dumps(BOXES[:2]))
    with pytest.raises(TTDError, match="no box for 1 ids"):
        script.main([*arguments(files), "--against", str(files / "earlier.json")])
    assert "acc@0.5" in capsys.readouterr().out and (files / "o.json").exists()


def test_an_earlier_result_that_is_not_there_is_said_first(files, capsys):
    """Before a model looks at any image: these are not there, either."""
    with pytest.raises(TTDError, match=r"--against .*no\.json: no such file"):
        script.main([*arguments(files), "--against", str(files / "no.json")])
    own = ["--ref-l4", str(files / "ref-l4-val.jsonl"), "--device", "cpu"]
    own += ["--grounder", str(ROOT / "weights/tiny-grounder/model.safetensors")]
    with pytest.raises(TTDError, match=r"no weight file at .*no\.safetensors"):
        script.main([*own, "--against", str(files / "no.safetensors")])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("option", ["--gallery", "--baselines", "--data", "--dataset"])
def test_what_it_does_not_do_is_refused(files, option):
    with pytest.raises(TTDError, match=f"^{option}: of other lists than --ref-l4's"):
        script.main([*arguments(files), option, "x"])


def test_the_table_as_csv(files):
    script.main([*arguments(files), "--csv", str(files / "o.csv")])
    lines = (files / "o.csv").read_text().splitlines()
    assert lines[0].startswith("percent,ours,") and lines[1] == "acc@0.5,66.67,81.70"
