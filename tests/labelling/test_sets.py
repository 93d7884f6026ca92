"""What a labelled set holds, and its exports as the tools and scripts they are for read them."""

import json
import os

import export_labels
import numpy as np
import pytest
import stats_labels
from PIL import Image
from small_labels import label_all, rows_of, settings_for, small_set

from core.data.grounding import read_phrases
from core.data.labels.datasets import open_caption_set
from core.data.labels.rle import decode
from core.data.pairs import open_pairs
from core.errors import TTDError
from core.labelling.manifest import NAME


@pytest.fixture(scope="module")
def labels(tmp_path_factory, small_clip):
    """Three shards with everything; the folder of labels and all rows."""
    folder = tmp_path_factory.mktemp("set")
    label_all(small_set(folder / "in"), settings_for(small_clip), folder / "out")
    rows = [row for k in range(3) for row in rows_of(folder / f"out/{k:05d}.parquet")]
    return folder / "out", rows


def export(labels, form, out, *more):
    assert export_labels.main([str(labels[0]), "--format", form, "--out", str(out), *more]) == 0


def test_stats_are_those_of_the_rows(labels, tmp_path, capsys):
    assert stats_labels.main([str(labels[0]), "--out", str(tmp_path / "s.png")]) == 0
    said, rows = capsys.readouterr().out, labels[1]
    words = [word for row in rows for word in row["words"]]
    chosen = [word for word in words if word["selected"]]
    rejected = 100 * (1 - len(chosen) / len(words))
    assert f"3 shards, 0 failed; {len(rows)} pairs, 0 skipped" in said
    assert f"{len(words)} words, {len(chosen)} selected: {rejected:.1f} % rejected" in said
    empty = sum(one["area"] == 0 for row in rows for one in row["masks"])
    assert f"{empty} of {sum(len(row['masks']) for row in rows)} are empty" in said
    share = sum(row["caption_area"] / (row["height"] * row["width"]) for row in rows) / len(rows)
    assert f"captions' masks: {100 * share:.0f} % of the image on average" in said
    names = [word["word"].lower() for word in chosen]
    top = max(set(names), key=names.count)
    assert f"{top} {names.count(top)}" in said.partition("top tags")[2].partition("\n")[0]
    assert np.asarray(Image.open(tmp_path / "s.png")).std() > 5


def test_cc3m_is_read_as_a_caption_set(labels, tmp_path):
    export(labels, "cc3m", tmp_path / "cc3m_for_evaluation")
    found = open_caption_set("CC3M", tmp_path)
    records = list(found.records.usable())
    assert len(records) == len(labels[1])
    for record, row in zip(records, labels[1], strict=True):
        assert (record.id, record.text) == (row["key"], row["caption"])
        assert list(record.tags) == row["tags"]
        for one in row["masks"]:
            np.testing.assert_array_equal(found.tag_mask(record, one["tag"]), decode(one["rle"]))


def test_coco_is_read_by_pycocotools(labels, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    export(labels, "coco", tmp_path / "out", "--limit", "4")
    read = coco.COCO(str(tmp_path / "out/annotations.json"))
    assert len(read.imgs) == 4
    for number, row in zip(sorted(read.imgs), labels[1], strict=False):
        marks = read.loadAnns(read.getAnnIds([number]))
        expected = [one for one in row["masks"] if one["area"]]
        assert [read.cats[one["category_id"]]["name"] for one in marks] == [
            one["tag"].lower() for one in expected
        ]
        for mark, one in zip(marks, expected, strict=True):
            np.testing.assert_array_equal(read.annToMask(mark) == 1, decode(one["rle"]))
            assert mark["area"] == one["area"]


def test_coco_is_sound_without_any_tool(labels, tmp_path):
    export(labels, "coco", tmp_path / "out")
    content = json.loads((tmp_path / "out/annotations.json").read_text())
    for image in content["images"]:
        size = Image.open(tmp_path / "out/images" / image["file_name"]).size
        assert size == (image["width"], image["height"])
    assert [one["id"] for one in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )
    for mark in content["annotations"]:
        ys, xs = np.nonzero(decode(mark["segmentation"]))
        box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert mark["bbox"] == box and mark["area"] == len(ys)


def test_pairs_are_read_as_training_pairs(labels, tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    export(labels, "pairs", tmp_path / "pairs")
    pairs = open_pairs(str(tmp_path / "pairs"))
    read = [(pairs[k].id, pairs[k].text) for k in range(len(pairs))]
    assert read == [(row["key"], row["caption"]) for row in labels[1]]
    direct = open_pairs(str(labels[0]))  # and the labels themselves: their shards
    assert [(direct[k].id, direct[k].text) for k in range(len(direct))] == read


def test_phrases_are_read_as_training_phrases(labels, tmp_path):
    export(labels, "phrases", tmp_path / "out", "--limit", "5")
    phrases = read_phrases(tmp_path / "out/phrases.jsonl").phrases
    expected = [(one["text"], tuple(one["box"])) for row in labels[1][:5] for one in row["boxes"]]
    assert [(one.text, one.box) for one in phrases] == expected
    assert all(one.image.is_file() for one in phrases)


def test_only_some_tags(labels, tmp_path, capsys):
    tag = labels[1][0]["tags"][0]
    export(labels, "pairs", tmp_path / "some", "--tags", tag.upper())
    expected = [row["key"] for row in labels[1] if tag in row["tags"]]
    assert sorted(path.stem for path in (tmp_path / "some/json").iterdir()) == expected
    more = ["--format", "pairs", "--out", str(tmp_path / "none"), "--tags", "zebra"]
    assert export_labels.main([str(labels[0]), *more]) == 2
    assert "no pair was chosen" in capsys.readouterr().err


def test_labels_that_other_settings_left_are_not_mixed_in(tmp_path, small_clip, capsys):
    """A second run with --overwrite of fewer shards, or one that was stopped."""
    out, both = tmp_path / "out", small_set(tmp_path / "in", (1, 2))
    settings = settings_for(small_clip, want=("tags",))
    label_all(both, settings, out)
    first = str(tmp_path / "in/{00000..00000}.tar")
    label_all(first, settings_for(small_clip), out, overwrite=True)
    assert len(rows_of(out / NAME)) == 1
    stats_labels.main([str(out)])
    said = capsys.readouterr().out
    assert "1 shards, 0 failed; 1 pairs" in said and "1 shards of other settings" in said
    export((out, []), "coco", tmp_path / "coco")
    assert len(json.loads((tmp_path / "coco/annotations.json").read_text())["images"]) == 1


def test_a_limit_asks_nothing_of_what_is_behind_it(tmp_path, small_clip):
    pattern, out = small_set(tmp_path / "in", (2, 1)), tmp_path / "out"
    label_all(pattern, settings_for(small_clip, want=("tags",)), out)
    (tmp_path / "in/00001.tar").unlink()
    export((out, []), "pairs", tmp_path / "pairs", "--limit", "2")


def test_images_of_another_shard_are_no_images_of_these_labels(tmp_path, small_clip):
    """Of the same size and with the same keys."""
    pattern, out = small_set(tmp_path / "in", (1,)), tmp_path / "out"
    label_all(pattern, settings_for(small_clip, want=("tags",)), out)
    shard = tmp_path / "in/00000.tar"
    os.utime(shard, (1, 1))
    export((out, []), "pairs", tmp_path / "touched")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(TTDError, match="not the file that was labelled"):
        export((out, []), "pairs", tmp_path / "changed")


@pytest.mark.parametrize(
    ("key", "value"), [("input", {}), ("output", {}), ("skipped", {}), ("pairs", "x")]
)
def test_damaged_facts_about_a_shard_are_one_line(tmp_path, small_clip, key, value):
    out = tmp_path / "out"
    label_all(small_set(tmp_path / "in", (1,)), settings_for(small_clip, want=("tags",)), out)
    content = json.loads((out / "00000.json").read_text())
    (out / "00000.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(TTDError, match="damaged"):
        stats_labels.main([str(out)])


def test_what_is_missing_is_one_line(labels, tmp_path, small_clip):
    label_all(
        small_set(tmp_path / "in", (1,)), settings_for(small_clip, want=("tags",)), tmp_path / "t"
    )
    arguments = [str(tmp_path / "t"), "--format", "coco", "--out", str(tmp_path / "out")]
    with pytest.raises(TTDError, match="--want masks"):
        export_labels.main(arguments)
    with pytest.raises(TTDError, match="so no labels"):
        stats_labels.main([str(tmp_path / "in")])
    (tmp_path / "t/00000.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(TTDError, match="damaged"):
        stats_labels.main([str(tmp_path / "t")])
    (tmp_path / "in/00000.tar").unlink()
    with pytest.raises(TTDError, match="no such file"):
        export_labels.main([*arguments, "--format", "pairs"])
