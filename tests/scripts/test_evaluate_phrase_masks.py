"""evaluate_phrase_masks.py on small releases: numbers by hand, the tiny model, wrong files."""

import json

import numpy as np
import pytest
from PIL import Image
from small_phrases import SIZE, box_mask, narrative, results, rle, write_png, write_saco

import evaluate_phrase_masks as script
from core.errors import TTDError

LEFT, RIGHT, TOP = box_mask(0, 0, 6, 4), box_mask(0, 4, 6, 8), box_mask(0, 0, 3, 4)
PAIRS = {1: {}, 2: {}, 3: {"is_instance_exhaustive": 0}, 4: {"is_pixel_exhaustive": 0}}
# Pair 1: two instances, or for c one; 2: nothing, or for b something; 3: a crowd; 4: one.
MARKED = {
    "a": {1: [TOP, RIGHT], 3: [(LEFT, 1)], 4: [LEFT]},
    "b": {1: [TOP, RIGHT], 2: [TOP], 3: [(LEFT, 1)], 4: [LEFT]},
    "c": {1: [LEFT | RIGHT], 3: [(LEFT, 1)], 4: [LEFT]},
}


@pytest.fixture
def saco(tmp_path):
    folder = write_saco(tmp_path / "gold", MARKED, PAIRS)
    for key in range(5):
        noise = np.random.default_rng(key).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{key}.png")
    return ["--protocol", "saco", "--truth", str(folder), "--json", str(tmp_path / "o.json")]


def scored(tmp_path, arguments, found):
    (tmp_path / "found.json").write_text(json.dumps(results(found)))
    assert script.main([*arguments, "--pred", str(tmp_path / "found.json")]) == 0
    return json.loads((tmp_path / "o.json").read_text())["subsets"][0]


def test_one_mask_a_phrase(saco, tmp_path, capsys):
    found = {1: [LEFT | RIGHT], 3: [TOP], 4: [(LEFT, 0.49)]}
    subset = scored(tmp_path, saco, found)
    # Scored: 1 (c agrees: one instance, IoU 1), 2 (a saw nothing: perfect), 4 (missed: 0.49 < 0.5).
    assert (subset["pairs"], subset["positive"], subset["single"]) == (3, 2, 1.0)
    own = subset["official"]
    assert own["IL_recall"] == pytest.approx(0.5, abs=1e-5)
    assert own["IL_MCC"] == pytest.approx((1 * 1 - 0) / (1 * 2 * 1 * 2) ** 0.5, abs=1e-5)
    assert own["pmF1"] == pytest.approx(2 / 3, abs=1e-3)
    assert own["cgF1"] == pytest.approx(own["pmF1"] * own["IL_MCC"])
    # Unions of pixel-exhaustive pairs: 1 is whole for c; 2: b marked and nothing was found: 0;
    # 3: a crowd of 24 pixels, 12 of them found; 4 is not pixel-exhaustive.
    assert subset["union_pairs"] == 3 and subset["union_iou"] == pytest.approx((1 + 0 + 0.5) / 3)
    out = capsys.readouterr().out
    assert "cgF1 semantic" in out and "not an official number" in out and "SAM 3" in out


def test_instances_are_not_called_semantic(saco, tmp_path, capsys):
    subset = scored(tmp_path, saco, {1: [RIGHT, TOP], 4: [LEFT]})
    assert subset["official"]["cgF1"] == pytest.approx(1, abs=1e-3)
    assert subset["official"]["IL_MCC"] == pytest.approx(1, abs=1e-5)
    assert subset["single"] == 0.5 and not subset["semantic"]
    assert "semantic" not in capsys.readouterr().out


def test_several_subsets_and_their_mean(saco, tmp_path, capsys):
    write_saco(tmp_path / "gold", MARKED, PAIRS, subset="other")
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "tiny.json").write_text(json.dumps(results({1: [RIGHT, TOP], 4: [LEFT]})))
    (folder / "other.json").write_text("[]")
    script.main([*saco, "--pred", str(folder)])
    content = json.loads((tmp_path / "o.json").read_text())
    values = [subset["official"]["cgF1"] for subset in content["subsets"]]
    assert content["average"]["cgF1"] == pytest.approx(sum(values) / 2)
    assert "mean of 2 subsets" in capsys.readouterr().out


def test_the_model_writes_what_is_then_scored(saco, tmp_path):
    own = ["--arch", "tiny", "--device", "cpu", "--images", str(tmp_path), "--image", "24"]
    script.main([*saco, *own, "--save", str(tmp_path / "saved"), "--bg", "0.1"])
    first = (tmp_path / "o.json").read_text()
    assert len(json.loads((tmp_path / "saved/tiny.json").read_text())) == 4
    script.main([*saco, "--pred", str(tmp_path / "saved/tiny.json")])
    assert (tmp_path / "o.json").read_text() == first
    script.main([*saco, *own, "--min-score", "0.99"])  # nothing is there
    assert json.loads((tmp_path / "o.json").read_text())["subsets"][0]["masks"] == 0


def test_a_run_that_stops_goes_on(saco, tmp_path, monkeypatch, capsys):
    own = ["--arch", "tiny", "--device", "cpu", "--images", str(tmp_path), "--image", "24"]
    own += ["--save", str(tmp_path / "saved"), "--bg", "0.1"]
    good = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(good[:60])
    with pytest.raises(TTDError, match=r"3\.png.*--allow-missing"):
        script.main([*saco, *own])
    assert not (tmp_path / "saved/tiny.json").exists()
    (tmp_path / "3.png").write_bytes(good)
    script.main([*saco, *own])
    assert "resumes after 2 images" in capsys.readouterr().err
    first = (tmp_path / "saved/tiny.json").read_text()
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["tiny.json"]
    script.main([*saco, *own])
    assert (tmp_path / "saved/tiny.json").read_text() == first
    (tmp_path / "2.png").unlink()
    with pytest.raises(TTDError, match="1 of 4 images are missing"):
        script.main([*saco, *own])
    script.main([*saco, *own, "--allow-missing"])
    assert json.loads((tmp_path / "o.json").read_text())["subsets"][0]["pairs"] == 2


def shrunk(path):
    """An image of a file at half its size."""
    image = Image.open(path)
    image.resize((image.width // 2, image.height // 2)).save(path)


def test_an_image_of_another_size_is_said_before_the_model_begins(saco, tmp_path, monkeypatch):
    """Of all subsets, the last one too; a JPEG that EXIF turns is looked at upright."""
    model = ["--arch", "tiny", "--device", "cpu", "--images", str(tmp_path), "--image", "24"]
    other = {5: {"file_name": "5.jpg"}, 6: {"file_name": "6.jpg"}}
    write_saco(tmp_path / "gold", {"a": {}}, other, subset="zz")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", SIZE).save(tmp_path / "5.jpg", exif=exif)  # stored with the sides swapped
    Image.new("RGB", SIZE).save(tmp_path / "6.jpg")
    monkeypatch.setattr("tools.masker.Masker.masks", None)
    message = r"1 of 6 images .*6\.jpg has 8 x 6 pixels, .* say 6 x 8; .*--allow-missing"
    with pytest.raises(TTDError, match=message) as found:
        script.main([*saco, *model])
    assert "\n" not in str(found.value)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "6.jpg")
    with pytest.raises(TypeError):  # all is well, so that the model begins
        script.main([*saco, *model])


def test_a_size_that_the_header_hides_costs_nothing(saco, tmp_path, monkeypatch, capsys):
    """Found when the image is read; what was made before is kept, and so it is left out at last."""
    model = ["--arch", "tiny", "--device", "cpu", "--images", str(tmp_path), "--image", "24"]
    own = [*saco, *model, "--save", str(tmp_path / "saved")]
    good = (tmp_path / "3.png").read_bytes()
    shrunk(tmp_path / "3.png")
    monkeypatch.setattr("core.data.phrases.image_sizes._size", lambda path: None)
    with pytest.raises(TTDError, match=r"3\.png has 3 x 4 pixels.*6 x 8 .*; --allow-missing"):
        script.main(own)
    script.main([*own, "--allow-missing"])
    said = capsys.readouterr().err
    assert "resumes after 2 images" in said and "left out: 1 images" in said and "3.png" in said
    assert json.loads((tmp_path / "o.json").read_text())["subsets"][0]["pairs"] == 3
    (tmp_path / "3.png").write_bytes(good)
    script.main(own)
    assert json.loads((tmp_path / "o.json").read_text())["subsets"][0]["union_pairs"] == 3


def test_a_mask_of_another_size_in_a_log_is_made_again(saco, tmp_path):
    """Of an image that has been replaced by the right one since."""
    model = ["--arch", "tiny", "--device", "cpu", "--images", str(tmp_path), "--image", "24"]
    script.main([*saco, *model, "--save", str(tmp_path / "whole")])
    own = [*saco, *model, "--save", str(tmp_path / "saved")]
    good = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(good[:60])
    with pytest.raises(TTDError, match=r"3\.png"):
        script.main(own)
    log = tmp_path / "saved/tiny.json.part"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1][1][0][1] = {"size": [3, 4], "counts": "<0"}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "3.png").write_bytes(good)
    script.main(own)
    first, second = (tmp_path / place / "tiny.json" for place in ("whole", "saved"))
    assert first.read_text() == second.read_text()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"image_id": 9, "segmentation": rle(LEFT), "score": 1}],
            r"pairs that tiny does not have .9",
        ),
        ([{"image_id": 1, "segmentation": rle(LEFT[:3]), "score": 1}], "a mask of 3 x 8"),
        ([{"image_id": 1, "segmentation": {"size": [6, 8], "counts": [3]}, "score": 1}], "damaged"),
        ([{"image_id": 1, "segmentation": rle(LEFT)}], "entry 0"),
        ([{"image_id": 1, "segmentation": rle(LEFT), "score": float("nan")}], "finite number"),
        ({"a": 1}, "not a list"),
    ],
)
def test_predictions_that_are_wrong(saco, tmp_path, rows, message):
    (tmp_path / "x.json").write_text(json.dumps(rows))
    with pytest.raises(TTDError, match=message):
        script.main([*saco, "--pred", str(tmp_path / "x.json")])


def test_annotators_must_have_the_same_pairs(saco, tmp_path):
    path = tmp_path / "gold/gold_tiny_merged_b_release_test.json"
    content = json.loads(path.read_text())
    content["images"][0]["text_input"] = "other"
    path.write_text(json.dumps(content))
    with pytest.raises(TTDError, match=r"1 pairs differ .*\(1\)"):
        script.main([*saco, "--pred", str(tmp_path / "x.json")])
    with pytest.raises(TTDError, match="no gold_SUBSET"):
        script.main(["--protocol", "saco", "--truth", str(tmp_path), "--pred", "x"])


def png_line(number, phrase, mask):
    return json.dumps({"narrative": number, "phrase": phrase, "segmentation": rle(mask)})


def test_narratives(tmp_path, capsys):
    rows = [narrative(("two dogs", [7, 300]), ("on", []), ("grass", [70000])), narrative(("x", []))]
    root = write_png(tmp_path, rows)
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join([png_line(0, 0, TOP), png_line(0, 2, RIGHT)]))
    options = ["--protocol", "png", "--truth", str(root), "--json", str(tmp_path / "o.json")]
    script.main([*options, "--pred", str(path)])
    groups = json.loads((tmp_path / "o.json").read_text())["groups"]
    assert groups["all"]["mean_iou"] == 0.75 and groups["all"]["acc@0.5"] == 0.5
    assert groups["things"]["mean_iou"] == groups["plural"]["mean_iou"] == 0.5
    assert groups["stuff"]["mean_iou"] == groups["singular"]["mean_iou"] == 1
    out = capsys.readouterr().out
    assert "1 narratives; left out: 1 without a grounded phrase" in out and "XPNG" in out
    path.write_text(png_line(0, 0, TOP))
    with pytest.raises(TTDError, match="no mask for narrative 0, phrase 2"):
        script.main([*options, "--pred", str(path)])
    path.write_text("\n".join([png_line(0, 0, TOP[:2]), png_line(0, 2, RIGHT)]))
    with pytest.raises(TTDError, match="the image has"):
        script.main([*options, "--pred", str(path)])


def test_narratives_by_the_model(tmp_path):
    root = write_png(tmp_path, [narrative(("dogs", [7, 300]))])
    options = ["--protocol", "png", "--truth", str(root), "--json", str(tmp_path / "o.json")]
    model = ["--arch", "tiny", "--device", "cpu", "--save", str(tmp_path / "m.jsonl")]
    script.main([*options, *model, "--image", "24"])
    first = (tmp_path / "o.json").read_text()
    script.main([*options, "--pred", str(tmp_path / "m.jsonl")])
    assert (tmp_path / "o.json").read_text() == first
