"""What the page answers: a caption's words with maps, and label maps with their files."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from small_studio import picture, studio

from core.app.captions import ask_caption, cut_of, map_uri
from core.app.tags import coco_file, index_png
from core.data.labels.rle import decode
from core.predictor import Predictor, Row


def image_of(uri):
    """The image of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_words_of_a_caption(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    answer = ask_caption(desk, picture(tmp_path), "Red, blue green red", "one", "", False)
    assert answer["caption"] == "Red, blue green red"
    assert answer["words"] == ["Red", "blue", "green"]  # each once
    (pane,) = answer["panes"]
    red, blue, green = pane["words"]
    assert red["score"] == blue["score"] == 1.0 and green["score"] == 0.0  # cosines of colours
    assert (red["kept"], blue["kept"], green["kept"]) == (True, True, False)
    assert pane["cut"] == 0.5 and (red["norm"], green["norm"]) == (1.0, 0.0)
    assert 16 / 64 < red["at"][0] < 32 / 64 and 8 / 48 < red["at"][1] < 24 / 48  # in the square
    json.dumps(answer)  # plain data


def test_a_map_is_the_soft_mask_in_grey(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    path = picture(tmp_path)
    answer = ask_caption(desk, path, "red blue", "one", "", False)
    with desk.picture(path) as found:
        predictor = Predictor(desk.predictor(found, "one").backbone)
    predictor.set_image(path)
    expected = predictor.soft_masks(["red blue", "red", "blue"]).numpy()
    shown = [answer["panes"][0]["caption"], *answer["panes"][0]["words"]]
    for entry, mask in zip(shown, expected, strict=True):
        grey = np.asarray(image_of(entry["map"]))
        assert grey.dtype == np.uint8 and grey.shape == (48, 64)
        np.testing.assert_allclose(grey / 255, mask, atol=0.5 / 255 + 1e-6)


def test_values_outside_of_a_map_are_cut():
    grey = np.asarray(image_of(map_uri(np.array([[-1, 0, 0.5], [1, 2, np.nan]], np.float32))))
    assert grey.tolist() == [[0, 0, 128], [255, 255, 0]]


def test_pamr_changes_maps_and_no_scores(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    plain, refined = (
        ask_caption(desk, picture(tmp_path), "red green", "one", "", pamr)["panes"][0]
        for pamr in (False, True)
    )
    drop = [{k: v for k, v in word.items() if k != "map"} for word in plain["words"]]
    assert drop == [{k: v for k, v in word.items() if k != "map"} for word in refined["words"]]
    before, after = (np.asarray(image_of(p["words"][0]["map"]), float) for p in (plain, refined))
    inside = np.zeros((48, 64), bool)
    inside[8:24, 16:32] = True
    assert (
        after[inside].mean() - after[~inside].mean()
        > before[inside].mean() - before[~inside].mean()
    )  # sharper at the square's edges


def test_with_an_adapter_there_are_two_panes(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    answer = ask_caption(desk, picture(tmp_path), "red", "one", "one+more", False)
    assert [pane["title"] for pane in answer["panes"]] == ["one", "one with one+more"]


def test_where_the_cut_is_drawn():
    def rows(*pairs):
        return [Row("w", 0.0, norm, kept, 0, 0) for norm, kept in pairs]

    assert cut_of(rows((0.0, False), (0.3, False), (0.7, True), (1.0, True))) == 0.5
    assert cut_of(rows((1.0, True))) is None and cut_of(rows((0.2, False))) is None


LABELS = np.array([[0, 1, 1, 3], [0, 1, 0, 3]], np.uint8)


def test_a_coco_file_of_a_label_map():
    content = json.loads(coco_file(LABELS, ["a", "b", "ç"], "dog ü.jpg"))
    assert content["images"] == [{"id": 1, "file_name": "dog ü.jpg", "width": 4, "height": 2}]
    assert [(one["id"], one["name"]) for one in content["categories"]] == [
        (1, "a"),
        (2, "b"),
        (3, "ç"),
    ]
    first, second = content["annotations"]
    assert (first["id"], first["image_id"], first["category_id"]) == (1, 1, 1)
    assert first["bbox"] == [1, 0, 2, 2] and first["area"] == 3 and first["iscrowd"] == 0
    assert (second["id"], second["category_id"], second["bbox"]) == (2, 3, [3, 0, 1, 2])
    np.testing.assert_array_equal(decode(second["segmentation"]), LABELS == 3)


def test_the_label_map_keeps_its_numbers_and_has_vocs_colours():
    image = Image.open(io.BytesIO(index_png(LABELS)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), LABELS)
    colours = np.asarray(image.convert("RGB"))
    assert colours[0, 1].tolist() == [128, 0, 0] and colours[0, 3].tolist() == [128, 128, 0]


@pytest.mark.slow
def test_tags_of_the_picture_that_ships():
    from core import demo_image, load_backbone
    from core.app.models import offer
    from core.app.studio import Studio
    from core.app.tags import ask_tags

    tags = ["red house", "tree", "purple bird", "fish"]
    found = ask_tags(Studio(offer()), str(demo_image()), ", ".join(tags), "tiny", "")
    predictor = Predictor(load_backbone("tiny"))
    predictor.set_image(demo_image())
    expected = predictor.label_map(tags)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found.png))), expected)
    for k, tag in enumerate(tags, start=1):
        assert found.found[tag] == (expected == k).mean()
    # Without PAMR some pixels at edges are the fish that is not there.
    assert found.found["fish"] < 0.01 < min(found.found[tag] for tag in tags[:3])
