"""tools/preview.py: any result with its names, over images that it finds by itself."""

import json

import numpy as np
import preview
import pytest
from PIL import Image

from core.data.labels.datasets import open_dataset
from core.errors import TTDError
from core.evaluation.preview import draw, open_result, present, read
from core.masks.class_list import classes_of, read_classes, write_classes
from core.plots.label_overlay import Entry, legend, overlay, with_legend

SIZE = (48, 64)  # of every image here


def photo(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def label_map():
    """Background, then labels 1 and 2 from left to right, and a corner that no class covers."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 20:40], labels[:, 40:], labels[:8, 60:] = 1, 2, 255
    return labels


def save(path, values, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path)


@pytest.fixture
def result(tmp_path):
    """Three label maps as produce_masks_from_tags.py writes them, their images elsewhere."""
    for k, name in enumerate(("a", "b.c", "d")):
        save(tmp_path / "photos" / f"{name}.png", photo(k))
        save(tmp_path / "made" / f"{name}.png", label_map())
    text = "images: photos\nclasses: [cat|kitten, dog]\nbackground: 0\n"
    (tmp_path / "set.yaml").write_text(text, encoding="utf-8")
    write_classes(tmp_path / "made", classes_of(open_dataset(str(tmp_path / "set.yaml"))))
    identity = {"classes": "x", "pictures": str(tmp_path / "photos")}
    content = json.dumps({"identity": identity})
    (tmp_path / "made" / "protocol.json").write_text(content, encoding="utf-8")
    return tmp_path / "made"


def test_classes_json_names_every_label_value(result):
    assert json.loads((result / "classes.json").read_text(encoding="utf-8")) == [
        {"id": 0, "name": "background", "color": [0, 0, 0]},
        {"id": 1, "name": "cat", "synonyms": ["kitten"], "color": [128, 0, 0]},
        {"id": 2, "name": "dog", "color": [0, 128, 0]},
    ]
    assert [one.name for one in read_classes(result)] == ["background", "cat", "dog"]


def test_every_image_is_drawn_and_a_sheet_of_all(result, capsys):
    assert preview.main([str(result)]) == 0
    out = result / "preview"
    assert sorted(path.name for path in (out / "overlays").iterdir()) == [
        "a.jpg",
        "b.c.jpg",
        "d.jpg",
    ]
    with Image.open(out / "contact_sheet.jpg") as sheet:
        assert sheet.width > 2 * 320 and sheet.height > 2 * 240
    assert "3 of 3 images" in capsys.readouterr().out
    assert preview.main([str(result), "--limit", "2", "--out", str(result / "few")]) == 0
    assert len(list((result / "few" / "overlays").iterdir())) == 2


def test_names_are_those_of_the_classes_and_the_background_has_none(result):
    found = open_result(result)
    pixels, labels = read(found.items[0])
    assert [(e.label, e.name) for e in present(found.entries, labels)] == [(1, "cat"), (2, "dog")]
    assert [item.id for item in found.items] == ["a", "b.c", "d"] and found.named


def test_what_no_class_covers_is_the_photograph():
    image, labels = photo(), label_map()
    drawn = overlay(image, labels, [Entry(1, "cat", (200, 0, 0)), Entry(2, "dog", (0, 0, 200))])
    free = (labels == 0) | (labels == 255)
    assert np.array_equal(drawn[free], image[free])
    inside = drawn[10:40, 24:36].astype(int)  # of label 1, away from its outline
    assert (inside[..., 0] > inside[..., 2] + 80).all() and (inside[..., 1] == inside[..., 2]).all()
    assert (drawn[:, 20] == 255).all() and (drawn[:, 39] == 255).all()  # its outline
    assert not (drawn[:, 19] == 255).all()  # which lies on it, not beside it


@pytest.mark.parametrize(("count", "width"), [(1, 10), (20, 330), (40, 1330)])
def test_a_legend_has_every_name_and_its_colour(count, width):
    colours = np.random.default_rng(3).integers(0, 256, (count, 3)).tolist()
    entries = [Entry(k + 1, f"class {k} of some", tuple(c)) for k, c in enumerate(colours)]
    drawn = np.asarray(legend(entries, width))
    for colour in colours:  # its tint over middle grey
        light = 90 + (1 - 90 / 255) * 128
        tint = np.round(0.6 * np.array(colour) + 0.4 * light).astype(np.uint8)
        assert (drawn == tint).all(-1).sum() >= 15 * 15
    assert drawn.shape[1] == max(width, 320)


def test_a_long_or_undrawable_name_spoils_nothing():
    entries = [Entry(1, "x" * 500, (9, 9, 9)), Entry(2, "\ue000\U0010fffe", (200, 9, 9))]
    assert legend(entries, 400).width == 400
    assert with_legend(photo(), []).shape == (*SIZE, 3)


def test_images_that_are_not_there_are_said(result, capsys):
    (result.parent / "photos" / "a.png").unlink()
    assert preview.main([str(result)]) == 0
    assert "1 images are not found; see --images" in capsys.readouterr().err
    (result.parent / "photos").rename(result.parent / "moved")
    with pytest.raises(TTDError, match="--images"):
        preview.main([str(result)])
    assert preview.main([str(result), "--images", str(result.parent / "moved")]) == 0


def test_a_mask_of_another_size_is_named_and_the_others_are_drawn(result, capsys):
    save(result / "a.png", np.zeros((5, 5), np.uint8))
    assert preview.main([str(result)]) == 2
    said = capsys.readouterr()
    assert "a.png: the mask has 5x5, its image 64x48" in said.err and "2 of 3" in said.out


@pytest.mark.parametrize(
    "content", ["{}x", "[1]", '[{"id": 300, "name": "a", "color": [0, 0, 0]}]', '[{"id": 1}]']
)
def test_a_damaged_list_of_classes_is_one_line(result, content):
    (result / "classes.json").write_text(content, encoding="utf-8")
    with pytest.raises(TTDError, match="classes.json: not a list"):
        open_result(result)


def test_masks_of_another_tool_are_shown_in_their_own_colours(tmp_path):
    palette = np.zeros((256, 3), np.uint8)
    palette[1], palette[2], palette[255] = (10, 20, 30), (40, 50, 60), (224, 224, 192)
    save(tmp_path / "photos" / "a.jpg", photo())
    save(tmp_path / "made" / "a.png", label_map(), palette)
    found = open_result(tmp_path / "made", tmp_path / "photos")
    _, labels = read(found.items[0])
    shown = present(found.entries, labels)
    assert [(e.name, e.colour) for e in shown] == [
        ("label 1", (10, 20, 30)),
        ("label 2", (40, 50, 60)),
    ]
    assert not found.named


@pytest.mark.parametrize(("values", "names"), [([0, 255], ["foreground"]), ([0, 3], ["label 3"])])
def test_grey_masks_without_names(tmp_path, values, names):
    labels = np.full(SIZE, values[0], np.uint8)
    labels[:, 9:] = values[1]
    save(tmp_path / "photos" / "a.jpg", photo())
    save(tmp_path / "made" / "a.png", labels)
    found = open_result(tmp_path / "made", tmp_path / "photos")
    assert [entry.name for entry in present(found.entries, labels)] == names


def test_masks_of_captions_bring_their_captions(tmp_path):
    save(tmp_path / "images" / "p.png", photo())
    rows = [{"image": "images/p.png", "captions": ["a cat", "a dog"]}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "list.jsonl").write_text(text, encoding="utf-8")
    for number in (0, 1):
        mask = np.where(label_map() == 1, 255, 0).astype(np.uint8)
        save(tmp_path / "made" / f"images_p#{number}.png", mask)
    identity = {"tags": "caption", "pictures": str(tmp_path / "list.jsonl")}
    content = json.dumps({"identity": identity})
    (tmp_path / "made" / "protocol.json").write_text(content, encoding="utf-8")
    found = open_result(tmp_path / "made")
    assert [item.caption for item in found.items] == ["a cat", "a dog"]
    assert [entry.name for entry in found.entries] == ["foreground"]
    assert preview.main([str(tmp_path / "made")]) == 0


def test_boxes_lie_where_the_file_says(tmp_path, capsys):
    white = np.full((*SIZE, 3), 255, np.uint8)
    save(tmp_path / "p.png", white)
    rows = [
        {"id": "p#0", "image": "p.png", "text": "", "box": [8, 6, 24, 36]},
        {"id": "p#1", "image": "p.png", "text": "", "box": [32, 6, 56, 36]},
    ]
    path = tmp_path / "boxes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (item,) = open_result(path).items
    drawn = draw(item, white, None, [], small=True)
    factor = 320 / SIZE[1]
    assert drawn.shape[1] == 320
    marked = np.argwhere((drawn < 250).any(-1)) / factor  # (y, x)
    assert np.allclose(marked.min(0), (6, 8), atol=0.5)
    assert np.allclose(marked.max(0), (36, 56), atol=0.5)
    assert preview.main([str(path)]) == 0
    assert (tmp_path / "boxes.preview" / "contact_sheet.jpg").is_file()


@pytest.mark.parametrize(
    "content", ["", "no JSON\n", '{"id": "a", "image": "b", "text": "c", "box": [1, 2]}\n', "[]\n"]
)
def test_another_file_is_no_result(tmp_path, content):
    (tmp_path / "x.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(TTDError, match="x.jsonl"):
        open_result(tmp_path / "x.jsonl")


def test_a_folder_without_masks_is_no_result(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TTDError, match="masks"):
            open_result(path)


def test_boxes_of_a_list_are_named_by_their_image_not_by_one_phrase(tmp_path):
    """Images that are found through the list they came from: several phrases, no caption."""
    save(tmp_path / "images/a.png", photo())
    lines, boxes = [], []
    for k, text in enumerate(("a dog", "the tree")):
        lines.append(json.dumps({"id": f"a{k}", "image": "images/a.png", "text": text}) + "\n")
        row = {"id": f"a{k}", "image": "images/a.png", "text": text, "box": [1, 2, 9, 8]}
        boxes.append(json.dumps(row) + "\n")
    (tmp_path / "list.jsonl").write_text("".join(lines))
    (tmp_path / "made").mkdir()
    (tmp_path / "made/x.jsonl").write_text("".join(boxes))
    meta = {"identity": {"root": str(tmp_path / "list.jsonl")}}
    (tmp_path / "made/x.meta.json").write_text(json.dumps(meta))
    (item,) = open_result(tmp_path / "made/x.jsonl").items
    assert item.caption == "" and [text for _, text in item.boxes] == ["a dog", "the tree"]
