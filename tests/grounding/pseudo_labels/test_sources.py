"""Relation and caption sources, noun phrases, scene files, and the lists that are written."""

import json

import numpy as np
import pytest

from core.data.grounding import read_phrases
from core.errors import TTDError
from core.grounding.pseudo_labels.caption import caption_phrases
from core.grounding.pseudo_labels.coco import coco_scenes
from core.grounding.pseudo_labels.from_ttd import Named, objects_of
from core.grounding.pseudo_labels.head_noun import entities, head_words, noun_phrases, singular
from core.grounding.pseudo_labels.relation import relation_phrases
from core.grounding.pseudo_labels.scenes import Detection, Relation, Scene, parse_scene, read_scenes
from core.grounding.pseudo_labels.sources import SourceConfig, write_source
from core.grounding.pseudo_labels.vocabulary import Vocabulary, load_vocabulary

WORDS = Vocabulary(people=frozenset({"man", "woman"}), hat=frozenset({"hat"}))


@pytest.mark.parametrize(
    "text, phrases",
    [
        ("A man in a red hat is riding two horses.", ["man", "red hat", "two horses"]),
        ("a group of people standing in front of a bus", ["group", "people", "bus"]),
        ("there is a flying bird on the grass", ["flying bird", "grass"]),
        ("the red star left of the house", ["red star", "house"]),
        ("two dogs, a cat and an old man", ["two dogs", "cat", "old man"]),
        ("the biggest key", ["biggest key"]),
        ("something red", []),
        ("", []),
    ],
)
def test_noun_phrases(text, phrases):
    assert [" ".join(words) for words in noun_phrases(text)] == phrases
    assert entities(text) == len(phrases)


def test_the_head_of_a_caption():
    assert head_words("a group of women eating pizzas") == ["women", "woman"]
    assert head_words("two brown dogs on a bed") == ["two", "brown", "dogs", "dog"]
    assert head_words("on the") == []


@pytest.mark.parametrize(
    "word, want",
    [("boxes", "box"), ("cities", "city"), ("men", "man"), ("bus", "bus"), ("glass", "glass"),
     ("dogs", "dog"), ("dresses", "dress"), ("gas", "gas"), ("tennis", "tennis")],
)  # fmt: skip
def test_singular(word, want):
    assert singular(word) == want


def test_relations_need_all_three_and_come_by_their_product():
    box = (10.0, 10.0, 50.0, 50.0)
    rows = [
        Relation("man", "riding", "horse", box, (0.9, 0.5, 0.9)),  # 0.405
        Relation("dog", "on", "grass", box, (0.9, 0.9, 0.9)),  # 0.729
        Relation("cat", "on", "bed", box, (0.9, 0.2, 0.9)),  # not above 0.2
        Relation("cup", "on", "table", (5.0, 5.0, 5.0, 9.0), (1, 1, 1)),  # no area
    ]
    scene = Scene("a.jpg", 100, 100, relations=tuple(rows))
    found = relation_phrases(scene)
    assert [item.text for item in found] == ["dog on grass", "man riding horse"]
    assert found[0].box == box
    assert [item.text for item in relation_phrases(scene, most=2)] == ["dog on grass"]


def test_a_caption_goes_to_every_object_of_its_head_s_class():
    objects = (
        Detection("dog", (1, 1, 60, 60), 0.9), Detection("dog", (100, 1, 160, 60), 0.8),
        Detection("bed", (1, 100, 200, 200), 0.8), Detection("hat", (1, 70, 5, 75), 0.8),
    )  # fmt: skip
    scene = Scene("a.jpg", 200, 200, objects, captions=("two dogs on a bed", "a hat", "a bed"))
    found = caption_phrases(scene, WORDS)
    assert [(item.text, item.box[0]) for item in found] == [
        ("two dogs on a bed", 1), ("two dogs on a bed", 100), ("a hat", 1), ("a bed", 1),
    ]  # fmt: skip
    assert len(caption_phrases(scene, WORDS, most=2)) == 2


def test_regions_of_a_map_become_objects():
    values = np.zeros((40, 60), np.float32)
    values[5:15, 10:30] = 0.9
    values[20:35, 40:55] = 0.8
    values[0, 0] = 1  # a region too small for the template source
    found = objects_of(values, Named("dogs", "red", 0.5), regions=3)
    assert [(item.label, item.attribute, item.box) for item in found] == [
        ("dog", "red", (40, 20, 55, 35)), ("dog", "red", (10, 5, 30, 15)),
    ]  # fmt: skip
    assert [item.score for item in found] == pytest.approx([0.4, 0.45])
    assert len(objects_of(values, Named("dog", None, 1.0), regions=1)) == 1


def test_scenes_survive_a_file(tmp_path):
    scene = Scene(
        "a/ü.jpg", 64, 48,
        (Detection("dog", (1.5, 2, 30, 40), 0.5, "old", 0.4),),
        (Detection("dog", (1, 2, 30, 40)),),
        (Relation("dog", "on", "grass", (1, 2, 3, 4), (0.5, 0.6, 0.7)),),
        ("a dog",),
    )  # fmt: skip
    file = tmp_path / "scenes.jsonl"
    file.write_text(json.dumps(scene.row()) + "\n\n", encoding="utf-8")
    assert list(read_scenes(file)) == [scene]


@pytest.mark.parametrize(
    "change, names",
    [
        ({"file": 3}, '"file"'), ({"width": 0}, '"width"'), ({"width": True}, '"width"'),
        ({"height": 1e9}, '"height"'), ({"objects": {}}, '"objects"'),
        ({"objects": [[]]}, "objects[0]"), ({"objects": [{"label": "a"}]}, "objects[0]"),
        ({"objects": [{"label": "a", "box": [1, 2, 3, float("nan")]}]}, "objects[0]"),
        ({"objects": [{"label": "a", "box": [1, 2, 3, 4], "score": 7}]}, '"score"'),
        ({"objects": [{"label": "a", "box": [1, 2, 3, 4], "attribute": 1}]}, '"attribute"'),
        ({"relations": [{"subject": "a"}]}, "relations[0]"), ({"captions": [1]}, '"captions"'),
    ],
)  # fmt: skip
def test_a_bad_scene_is_named_by_line_and_field(change, names):
    row = {"file": "a.jpg", "width": 10, "height": 10} | change
    with pytest.raises(TTDError) as caught:
        parse_scene(row, "x.jsonl:7")
    assert "x.jsonl:7" in str(caught.value) and names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_is_written_as_a_list_that_training_reads(tmp_path):
    scenes = [
        Scene("a.jpg", 200, 200, (Detection("dog", (0, 10.7, 100, 100.9), 0.9),)),
        Scene("b.jpg", 200, 200),
    ]
    (tmp_path / "a.jpg").write_bytes(b"")
    written = write_source(tmp_path / "t.jsonl", scenes, SourceConfig())
    assert (written.images, written.used, written.phrases, written.entities) == (2, 1, 1, 1.0)
    (phrase,) = read_phrases(tmp_path / "t.jsonl").phrases
    assert (phrase.id, phrase.text, phrase.box) == ("a.jpg#0", "dog", (1, 10, 100, 100))
    with pytest.raises(TTDError, match="no phrase of the relation source"):
        write_source(tmp_path / "r.jsonl", scenes, SourceConfig("relation"))
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize("wrong", [{"source": "x"}, {"parser": "x"}, {"phrases": 0}, {"apart": -1}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(TTDError):
        SourceConfig(**wrong)


def coco(**change):
    content = {
        "images": [{"id": 2, "file_name": "b.jpg", "width": 40, "height": 30},
                   {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 18, "bbox": [1, 2, 3, 4]},
            {"id": 6, "image_id": 1, "category_id": 18, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        ],
    }  # fmt: skip
    return content | change


def test_coco_as_scenes(tmp_path):
    (tmp_path / "i.json").write_text(json.dumps(coco()))
    said = {"annotations": [{"id": 1, "image_id": 1, "caption": "a  dog "}]}
    (tmp_path / "c.json").write_text(json.dumps(said))
    first, second = coco_scenes(tmp_path / "i.json", tmp_path / "c.json")
    assert (first.file, first.captions) == ("a.jpg", ("a dog",))
    assert [(item.label, item.box) for item in first.objects] == [("dog", (1, 2, 4, 6))]
    assert (second.file, second.objects) == ("b.jpg", ())


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": [{"id": 5, "image_id": 1, "category_id": [1], "bbox": [1, 2, 3, 4]}]},
        {"annotations": [{"id": 5, "image_id": 1, "category_id": 18, "bbox": [1, 2, "3", 4]}]},
        {"annotations": [{"id": 5, "image_id": 1, "category_id": 18, "bbox": None}]},
    ],
)
def test_a_bad_annotation_is_named(tmp_path, change):
    (tmp_path / "i.json").write_text(json.dumps(coco(**change)))
    with pytest.raises(TTDError, match="annotation 5"):
        list(coco_scenes(tmp_path / "i.json"))


@pytest.mark.parametrize("text", ["[]", "{", '{"images": 3}', "[" * 100_000])
def test_what_is_no_coco_json(tmp_path, text):
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(TTDError, match="i.json"):
        list(coco_scenes(tmp_path / "i.json"))


def test_a_bad_vocabulary(tmp_path):
    file = tmp_path / "v.yaml"
    file.write_text("people: [man]\nsocks: [x]\n")
    with pytest.raises(TTDError, match="socks"):
        load_vocabulary(file)
    file.write_text("people: man\n")
    with pytest.raises(TTDError, match="people must be a list"):
        load_vocabulary(file)
