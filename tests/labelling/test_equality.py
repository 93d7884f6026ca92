"""Labels of shards are those of the scripts that make tags, masks and boxes of one input."""

import json

import numpy as np
import pytest
from PIL import Image
from small_labels import label_all, rows_of, settings_for
from small_pairs import write_shards

import produce_boxes_from_text
import produce_masks_from_text
import produce_tags_from_text
from core.data.labels.rle import decode


@pytest.fixture(scope="module")
def small_grounder(tmp_path_factory):
    """A grounder of random weights."""
    from small_grounding import write_grounder

    return write_grounder(tmp_path_factory.mktemp("grounder"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory, small_clip):
    """One shard of five pairs, its rows, and the folder they are in."""
    folder = tmp_path_factory.mktemp("labels")
    write_shards(folder / "in", (5,))
    shard = folder / "in/00000.tar"
    (report,) = label_all(str(shard), settings_for(small_clip, png=True), folder / "out")
    assert (report.state, report.pairs, report.skipped) == ("made", 5, 0)
    return folder, shard, rows_of(folder / "out/00000.parquet")


def test_tags_are_those_of_the_script(labels, small_clip, tmp_path):
    _, shard, rows = labels
    common = ["--arch", f"local-dir:{small_clip}", "--scorer", "pixel", "--out", str(tmp_path)]
    produce_tags_from_text.main(["--root", str(shard), *common])
    (path,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len(rows) == 5
    for line, row in zip(lines, rows, strict=True):
        assert (line["id"], line["image"], line["text"]) == (
            row["key"],
            row["image"],
            row["caption"],
        )
        for word, ours in zip(line["words"], row["words"], strict=True):
            assert [ours["x"], ours["y"]] == word["xy"]
            assert all(ours[key] == word[key] for key in ("word", "start", "end", "selected"))
            assert all(f"{ours[key]:.5f}" == f"{word[key]:.5f}" for key in ("score", "norm"))
        chosen = [word["word"] for word in line["words"] if word["selected"]]
        assert row["tags"] == list(dict.fromkeys(chosen)) and row["tags"]


@pytest.mark.parametrize("tags", ["caption", "selected"])
def test_masks_are_those_of_the_script(labels, small_clip, tmp_path, tags):
    """The caption's; and the union of those of the tags is the script's `--tags selected`."""
    _, shard, rows = labels
    options = ["--image", "40", "--bg", "0.002", "--tags", tags, "--out", str(tmp_path)]
    produce_masks_from_text.main(
        ["--data", str(shard), "--arch", f"local-dir:{small_clip}", *options]
    )
    shares = []
    for row in rows:
        (path,) = tmp_path.glob(f"*/{row['key']}.png")
        theirs = np.asarray(Image.open(path)) == 255
        ours = decode(row["caption_mask"])
        if tags == "selected":
            ours = np.any([decode(one["rle"]) for one in row["masks"]], 0)
            assert [one["tag"] for one in row["masks"]] == row["tags"]
        np.testing.assert_array_equal(ours, theirs)
        shares.append(theirs.mean())
    assert any(0 < share < 1 for share in shares), "the masks of this test say nothing"


def test_areas_and_boxes_are_those_of_the_masks(labels):
    for row in labels[2]:
        masks = [(row["caption"], row["caption_area"], row["caption_mask"])]
        masks += [(one["tag"], one["area"], one["rle"]) for one in row["masks"]]
        expected = []
        for text, area, rle in masks:
            ys, xs = np.nonzero(decode(rle))
            assert area == len(ys)
            if len(ys):
                corners = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                expected.append(
                    {"text": text, "source": "mask", "box": [float(c) for c in corners]}
                )
        assert row["boxes"] == expected
        assert (row["height"], row["width"]) == (32, 40)


def test_pngs_are_the_masks(labels):
    """KEY.png is the caption's, KEY.0.png the first tag's; any tool reads the tar."""
    import io
    import tarfile

    folder, _, rows = labels
    with tarfile.open(folder / "out/00000.tar") as tar:
        files = {one.name: tar.extractfile(one).read() for one in tar}
    assert len(files) == sum(1 + len(row["tags"]) for row in rows)
    for row in rows:
        named = {f"{row['key']}.png": row["caption_mask"]}
        named |= {f"{row['key']}.{k}.png": one["rle"] for k, one in enumerate(row["masks"])}
        for name, rle in named.items():
            pixels = np.asarray(Image.open(io.BytesIO(files[name])))
            np.testing.assert_array_equal(pixels, 255 * decode(rle))


def test_boxes_of_a_grounder_are_those_of_the_script(tmp_path, small_clip, small_grounder):
    shard = write_shards(tmp_path / "in", (5,)) / "00000.tar"
    settings = settings_for(small_clip, want=("tags", "boxes"), grounder=small_grounder)
    label_all(str(shard), settings, tmp_path / "out")
    rows = rows_of(tmp_path / "out/00000.parquet")
    options = ["--grounder", small_grounder, "--out", str(tmp_path), "--tag", "x", "--batch", "32"]
    produce_boxes_from_text.main(["--root", str(shard), *options])
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [line["box"] for line in lines] == [row["boxes"][0]["box"] for row in rows]
    for row in rows:
        assert [one["text"] for one in row["boxes"]] == [row["caption"], *row["tags"]]
        assert {one["source"] for one in row["boxes"]} == {"grounder"}
    # A tag's box is that of the tag as a phrase.
    phrase = rows[0]["tags"][0]
    options[options.index("x")] = "y"
    produce_boxes_from_text.main(["--root", str(shard), "--phrases", phrase, *options])
    first = json.loads((tmp_path / "y.jsonl").read_text().splitlines()[0])
    np.testing.assert_allclose(first["box"], rows[0]["boxes"][1]["box"], atol=0.02)
