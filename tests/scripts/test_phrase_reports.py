"""--report and --against of evaluate_phrase_masks.py: numbers by hand, masks where they belong."""

import base64
import io
import json
import re

import numpy as np
import pytest
from harmless_page import HOSTILE, check_harmless
from paths import ROOT
from PIL import Image
from small_phrases import SIZE, box_mask, narrative, results, rle, write_png, write_saco

import evaluate_phrase_masks as script
from core.errors import TTDError

LEFT, RIGHT, TOP = box_mask(0, 0, 6, 4), box_mask(0, 4, 6, 8), box_mask(0, 0, 3, 4)
EVIL = HOSTILE.replace("\ud800", "")
PAIRS = {1: {"text_input": EVIL}, 2: {}, 3: {}}
# Pair 1: two annotators, the second marks all; 2: one thing; 3: nothing.
MARKED = {"a": {1: [LEFT], 2: [TOP]}, "b": {1: [LEFT, RIGHT], 2: [TOP]}}


@pytest.fixture
def saco(tmp_path):
    folder = write_saco(tmp_path / "gold", MARKED, PAIRS)
    (tmp_path / "images").mkdir()
    for key in PAIRS:
        noise = np.random.default_rng(key).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"images/{key}.png")
    return ["--protocol", "saco", "--truth", str(folder)]


def saved(path, found):
    path.write_text(json.dumps(results(found)))
    return str(path)


def page_of(tmp_path, arguments):
    """The harmless page that a call writes: what was read of it, and its source."""
    page = tmp_path / "page.html"
    assert script.main([*arguments, "--report", str(page)]) == 0
    source = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in source
    return check_harmless(source), source


def yellow(source, kind):
    """Of every image of a kind (its alt text) which pixels are a mask's: bool [H, W], from JPEG."""
    masks = []
    for data in re.findall(rf'<img src="data:image/jpeg;base64,([^"]+)" alt="{kind}"', source):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        rows = (np.arange(SIZE[0]) + 0.5) * pixels.shape[0] / SIZE[0]
        columns = (np.arange(SIZE[1]) + 0.5) * pixels.shape[1] / SIZE[1]
        seen = pixels[rows.astype(int)][:, columns.astype(int)].astype(int)
        masks.append(seen[..., 0] - seen[..., 2] > 60)
    return masks


def test_the_page_of_saco(saco, tmp_path, capsys):
    """IoU 0.5 with the annotator who agrees best, 0 where nothing is found, one false alarm."""
    found = saved(tmp_path / "now.json", {1: [RIGHT], 3: [TOP, LEFT]})
    images = ["--images", str(tmp_path / "images")]
    reader, source = page_of(tmp_path, [*saco, *images, "--pred", found])
    assert '<b class="value">25.0</b>' in source and "SAM 3" in source
    titles = re.findall(r"<h4>([^<]*)</h4>", source)
    assert titles == ["tiny, pair 1: 50.0", "tiny, pair 2: 0.0", "tiny, pair 3"]
    assert sum("<script>alert(1)</script>" in said for said in reader.said) == 1
    truths, predictions = yellow(source, "truth"), yellow(source, "prediction")
    for mask, wanted in zip(truths, (LEFT | RIGHT, TOP, LEFT & RIGHT), strict=True):
        assert (mask == wanted).all()
    for mask, wanted in zip(predictions, (RIGHT, LEFT & RIGHT, LEFT), strict=True):
        assert (mask == wanted).all()
    assert sum(name == "img" for name, _ in reader.elements) == 9
    printed = capsys.readouterr().out
    (cgf1,) = re.findall(r"^tiny +(\S+)", printed, re.MULTILINE)
    assert f'<b class="value">{float(cgf1):.1f}</b>' in source


def test_what_changed_and_no_images(saco, tmp_path, capsys):
    now = saved(tmp_path / "now.json", {1: [RIGHT], 2: [TOP]})
    old = saved(tmp_path / "old.json", {1: [LEFT | RIGHT]})
    reader, source = page_of(tmp_path, [*saco, "--pred", now, "--against", old])
    # Pair 1 from 1 to 0.5, pair 2 from 0 to 1.
    assert "now: +25.0 points" in capsys.readouterr().out
    changed = source[source.index("Most changed") :]
    titles = re.findall(r"<h4>([^<]*)</h4>", changed)
    assert titles == ["tiny, pair 2: 100.0 (+100.0)", "tiny, pair 1: 50.0 (-50.0)"]
    assert source.count("The image was not found.") == 4
    assert sum(name == "img" for name, _ in reader.elements) == 4 * 3  # truth, now, before
    with pytest.raises(TTDError, match="--against no.json: no such file"):
        script.main([*saco, "--pred", now, "--against", "no.json"])


def test_a_wrong_earlier_result_does_not_cost_the_numbers(saco, tmp_path, capsys):
    now = saved(tmp_path / "now.json", {1: [RIGHT]})
    (tmp_path / "old.json").write_text("{}")
    numbers = tmp_path / "o.json"
    argv = [*saco, "--pred", now, "--json", str(numbers), "--against", str(tmp_path / "old.json")]
    with pytest.raises(TTDError, match=r"old\.json: not a list"):
        script.main(argv)
    assert "SAM 3" in capsys.readouterr().out
    assert json.loads(numbers.read_text())["subsets"][0]["union_iou"] == 0.25


def test_two_means_of_subsets_are_told_apart(saco, tmp_path, capsys):
    """IoU 0.5 and 0 in one subset, 1 in the other: 50 over phrases, 62.5 over subsets."""
    write_saco(tmp_path / "gold", {"a": {1: [LEFT]}}, {1: {}}, "other")
    (tmp_path / "now").mkdir()
    saved(tmp_path / "now/tiny.json", {1: [RIGHT]})
    saved(tmp_path / "now/other.json", {1: [LEFT]})
    reader, source = page_of(tmp_path, [*saco, "--pred", str(tmp_path / "now")])
    assert '<b class="value">50.0</b>' in source and "<td>62.50</td>" in source
    assert any("mean over the phrases of all subsets together" in said for said in reader.said)
    groups = source[source.index("<h2>Groups") : source.index("<h2>Recall")]
    assert re.findall(r'class="value">([\d.]+)', groups) == ["100.0", "25.0"]


@pytest.mark.parametrize("limit", [[], ["--limit", "2"]])
def test_masks_of_another_benchmark_are_refused(saco, tmp_path, capsys, limit):
    """With --limit, too, where the pairs that are left out may have masks; nobody has a pair 77."""
    now = saved(tmp_path / "now.json", {1: [RIGHT], 3: [TOP]})
    foreign = saved(tmp_path / "foreign.json", {77: [TOP]})
    message = r"foreign\.json: predictions of 1 pairs that tiny does not have \(77\)"
    with pytest.raises(TTDError, match=message):
        script.main([*saco, *limit, "--pred", now, "--against", foreign])
    assert "SAM 3" in capsys.readouterr().out
    with pytest.raises(TTDError, match=message):
        script.main([*saco, *limit, "--pred", foreign])
    assert script.main([*saco, *limit, "--pred", now, "--against", now]) == 0


def test_what_is_wrong_is_said_of_the_earlier_masks(saco, tmp_path):
    now = saved(tmp_path / "now.json", {1: [RIGHT]})
    old = tmp_path / "old.json"
    small = {"image_id": 1, "segmentation": {"size": [2, 2], "counts": [4]}, "score": 0.9}
    old.write_text(json.dumps([small]))
    with pytest.raises(TTDError, match=r"--against .*old\.json: .*pair 1: a mask of 2 x 2 pixels"):
        script.main([*saco, "--pred", now, "--against", str(old)])
    root = write_png(tmp_path, [narrative(("dogs", [7]), ("grass", [70000]))])
    lines = [png_line(0, 0, TOP), png_line(0, 1, RIGHT)]
    for name, count in (("now", 2), ("old", 1)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines[:count]))
    argv = ["--protocol", "png", "--truth", str(root), "--pred", str(tmp_path / "now.jsonl")]
    message = r"--against .*old\.jsonl: no mask for narrative 0, phrase 1"
    with pytest.raises(TTDError, match=message):
        script.main([*argv, "--against", str(tmp_path / "old.jsonl")])


def test_nothing_to_compare(saco, tmp_path):
    """No pair with truth: the official numbers alone."""
    write_saco(tmp_path / "gold", {"a": {}, "b": {}}, PAIRS)
    found = saved(tmp_path / "now.json", {3: [TOP]})
    reader, _ = page_of(tmp_path, [*saco, "--pred", found, "--against", found])
    heads = [said for said in reader.said if said in ("Scores", "False alarms", "Groups")]
    assert heads == ["Scores", "False alarms"]


def test_a_model_gives_the_page_of_its_masks(saco, tmp_path):
    own = ["--arch", "tiny", "--device", "cpu", "--images", str(tmp_path / "images")]
    own += ["--image", "24", "--bg", "0.1", "--save", str(tmp_path / "made")]
    first = page_of(tmp_path, [*saco, *own])[1]
    second = page_of(tmp_path, [*saco, *own[4:6], "--pred", str(tmp_path / "made")])[1]
    start, end = "<h2>Groups", "</main>"
    assert first[first.index(start) : first.index(end)].replace("tiny", "made") == (
        second[second.index(start) : second.index(end)].replace("tiny", "made")
    )


def png_line(number, phrase, mask):
    return json.dumps({"narrative": number, "phrase": phrase, "segmentation": rle(mask)})


def test_the_page_of_narratives(tmp_path, capsys):
    """Two dogs half found, grass wholly; before, nothing was."""
    rows = [narrative(("two dogs", [7, 300]), ("on", []), ("grass", [70000]))]
    root, nothing = write_png(tmp_path, rows), LEFT & RIGHT
    for name, masks in (("now", (TOP, RIGHT)), ("old", (nothing, nothing))):
        lines = [png_line(0, 0, masks[0]), png_line(0, 2, masks[1])]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    options = ["--protocol", "png", "--truth", str(root), "--pred", str(tmp_path / "now.jsonl")]
    argv = [*options, "--against", str(tmp_path / "old.jsonl")]
    reader, source = page_of(tmp_path, argv)
    assert "now: +75.0 points" in capsys.readouterr().out
    assert '<b class="value">75.0</b>' in source and "XPNG" in source
    groups = source[source.index("<h2>Groups") : source.index("<h2>Recall")]
    names = re.findall(r'class="name">(\w+)<small> (\d) phrases', groups)
    assert names == [("things", "1"), ("plural", "1"), ("stuff", "1"), ("singular", "1")]
    assert re.findall(r'class="value">([\d.]+)', groups) == ["50.0", "50.0", "100.0", "100.0"]
    best = source[source.index("Best and worst") : source.index("Most changed")]
    for mask, wanted in zip(yellow(best, "truth"), (RIGHT, LEFT), strict=True):
        assert (mask == wanted).all()
    for mask, wanted in zip(yellow(best, "prediction"), (RIGHT, TOP), strict=True):
        assert (mask == wanted).all()
    assert sum(name == "img" for name, _ in reader.elements) == 4 * (2 + 2)
    first = (tmp_path / "page.html").read_bytes()
    page_of(tmp_path, argv)
    assert (tmp_path / "page.html").read_bytes() == first


def test_a_model_gives_the_page_of_narratives(tmp_path):
    root = write_png(tmp_path, [narrative(("dogs", [7, 300]))])
    options = ["--protocol", "png", "--truth", str(root), "--arch", "tiny", "--device", "cpu"]
    reader, source = page_of(tmp_path, [*options, "--image", "24", "--bg", "0.1"])
    assert sum(name == "img" for name, _ in reader.elements) == 3 and "dogs" in source
    options[options.index("tiny")] = f"local-dir:{ROOT / 'weights/tiny'}"
    _, source = page_of(tmp_path, [*options, "--image", "24", "--bg", "0.1"])
    assert str(ROOT) not in source and "local-dir:tiny" in source
