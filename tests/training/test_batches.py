"""Training pairs: the index on disk, the order, the crops; all of it a function of (seed, position) alone."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_pairs import caption, picture, write_jsonl, write_set, write_shards

from core.data.pair_index import hash_id, open_index
from core.data.pairs import open_pairs, read_pruned
from core.data.records import read_record
from core.errors import TTDError
from core.training.batches import Augmentation, Order, Split, augment, batches


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))


def texts(pairs):
    return [pairs[i].text for i in range(len(pairs))]


def test_folders_lists_and_shards_give_the_same_pairs(tmp_path):
    root = write_set(tmp_path / "root", 7)
    rows = write_jsonl(tmp_path / "list" / "pairs.jsonl", 7)
    shards = write_shards(tmp_path / "shards", (3, 4))
    wanted = [caption(i) for i in range(7)]
    for name in ("cc3m", str(rows), str(shards), str(shards / "{00000..00001}.tar")):
        pairs = open_pairs(name, root)
        assert texts(pairs) == wanted, name
        assert read_record(pairs[5]).shape == (32, 40, 3)
    for pairs in (open_pairs(str(rows)), open_pairs(str(shards))):  # lossless: the very images
        assert np.array_equal(read_record(pairs[6]), np.asarray(picture(6)))


def test_names_joined_by_plus_and_what_is_not_there(tmp_path):
    root = write_set(write_set(tmp_path, 3), 2, "cc12m", first=10)
    pairs = open_pairs("cc3m+cc12m", root)
    assert texts(pairs) == [caption(i) for i in (0, 1, 2, 10, 11)]
    assert texts(open_pairs("cc12m+cc3m", root, limit=4)) == [caption(i) for i in (10, 11, 0, 1)]
    with pytest.raises(TTDError, match="no pairs called cc4m.*--root"):
        open_pairs("cc3m+cc4m", root)
    with pytest.raises(TTDError, match="no data named"):
        open_pairs("", root)


def test_the_index_is_made_once_and_anew_when_the_input_changed(tmp_path):
    place = str(write_jsonl(tmp_path / "pairs.jsonl", 4))
    calls = []
    first = open_index(place, progress=calls.append)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.*")}
    assert open_index(place).digest == first.digest
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.*")}
    with open(place, "a") as file:
        file.write(json.dumps({"image": "images/p0000.png", "text": "one more"}) + "\n")
    assert len(open_index(place)) == 5 and open_index(place).digest != first.digest


def test_captions_edited_in_place_need_reindex(tmp_path):
    root = write_set(tmp_path, 3)
    old = open_pairs("cc3m", root).digest
    (root / "cc3m/train/json/cc3m_0001.json").write_text('{"text": "other"}')
    assert open_pairs("cc3m", root).digest == old  # documented: only names are looked at
    assert open_pairs("cc3m", root, refresh=True).digest != old


def test_unusable_records_are_listed_not_numbered(tmp_path):
    root = write_set(tmp_path, 5)
    folder = root / "cc3m/train"
    (folder / "json/cc3m_0001.json").write_text("{")
    (folder / "json/cc3m_0002.json").write_text('{"text": "..."}')
    (folder / "image/cc3m_0003.jpg").unlink()
    pairs = open_pairs("cc3m", root)
    assert [pairs[i].id for i in range(len(pairs))] == ["cc3m_0000", "cc3m_0004"]
    assert {item.id: item.reason.split(",")[0] for item in pairs.skipped} == {
        "cc3m_0001": "bad caption file",
        "cc3m_0002": "no words in the caption",
        "cc3m_0003": "no image with this name",
    }


def test_pruned_lists_keep_what_they_name(tmp_path):
    root = write_set(write_set(tmp_path, 4), 3, "cc12m")
    kept = tmp_path / "kept.txt"
    kept.write_text("# ttd pruned list of cc3m, TCL\ncc3m_0002\ncc3m_0000\ncc12m_0001\nunknown\n")
    ids = [
        pairs[i].id
        for pairs in [open_pairs("cc3m+cc12m", root, [str(kept)])]
        for i in range(len(pairs))
    ]
    assert ids == ["cc3m_0000", "cc3m_0002", "cc12m_0001"]
    ids = [
        pairs[i].id
        for pairs in [open_pairs("cc3m+cc12m", root, [str(kept), "none"])]
        for i in range(len(pairs))
    ]
    assert ids == ["cc3m_0000", "cc3m_0002", "cc12m_0000", "cc12m_0001", "cc12m_0002"]
    assert hash_id("cc3m_0002") in read_pruned(kept) and hash_id("# ttd") not in read_pruned(kept)
    for lists, said in (
        (["a", "b", "c"], "3 pruned lists for 2 sets"),
        ([str(tmp_path / "no")], "cannot be read"),
    ):
        with pytest.raises(TTDError, match=said):
            open_pairs("cc3m+cc12m", root, lists)
    kept.write_text("somebody else\n")
    with pytest.raises(TTDError, match="no usable pair.*pruned list"):
        open_pairs("cc3m", root, [str(kept)])


def test_the_digest_tells_other_data_apart(tmp_path):
    root = write_set(tmp_path, 4)
    kept = tmp_path / "kept.txt"
    kept.write_text("cc3m_0000\ncc3m_0001\n")
    digests = {
        open_pairs("cc3m", root).digest,
        open_pairs("cc3m", root, limit=2).digest,
        open_pairs("cc3m", root, [str(kept)]).digest,
    }
    assert len(digests) == 3 and open_pairs("cc3m", root).digest in digests
    (tmp_path / "moved").mkdir()
    (root / "cc3m").rename(tmp_path / "moved" / "cc3m")
    assert open_pairs("cc3m", tmp_path / "moved").digest in digests  # the same pairs elsewhere


def test_every_epoch_is_another_shuffle_of_everything():
    order = Order(10, seed=3)
    epochs = [[order[position] for position in range(start, start + 10)] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [Order(10, 3)[position] for position in range(20, 30)] == epochs[
        2
    ]  # without the epochs before
    assert [Order(10, 4)[position] for position in range(10)] != epochs[0]


@pytest.mark.parametrize("world, accumulate", [(1, 1), (1, 4), (2, 2), (4, 1), (3, 2)])
def test_every_split_shares_out_the_same_batch(world, accumulate):
    splits = [Split(12, rank, world, accumulate) for rank in range(world)]
    seen = [
        position
        for part in range(accumulate)
        for split in splits
        for position in split.positions(5, part)
    ]
    assert seen == list(range(60, 72))
    with pytest.raises(
        TTDError, match="a batch of 10 pairs cannot be shared by 3 processes x 2.*multiple of 6"
    ):
        Split(10, 0, 3, 2)


def test_an_uncropped_picture_is_resized_as_everywhere_else():
    pixels = np.array(picture(3, (50, 30)))
    got = augment(pixels, Augmentation(16, 8, hflip=False), 16, np.random.default_rng(0))
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    want = F.interpolate(whole, (16, 16), mode="bilinear", antialias=True)[0]
    assert torch.allclose(got, want, atol=1e-6)


def test_half_of_the_pictures_are_mirrored_and_crops_stay_inside():
    pixels = np.tile(
        np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3)
    )  # brightness = column
    plain = Augmentation(8, 8)
    left = [float(augment(pixels, plain, 8, np.random.default_rng(i))[0, 0, 0]) for i in range(200)]
    mirrored = sum(value > 32 / 255 for value in left)
    assert 70 < mirrored < 130 and len(set(np.round(left, 4))) == 2
    cropped = [
        augment(pixels, Augmentation(8, 8, hflip=False, crop=0.5), 8, np.random.default_rng(i))[0]
        * 255
        for i in range(200)
    ]
    widths = [
        float(crop[0, -1] - crop[0, 0]) * 8 / 7 for crop in cropped
    ]  # columns from the first to the last
    assert 31 <= min(widths) < 36 and 60 < max(widths) <= 65
    assert min(float(c.min()) for c in cropped) >= 0 and max(float(c.max()) for c in cropped) <= 63


def test_scales_are_drawn_per_step_in_multiples_of_the_patch():
    view = Augmentation(32, 8, scales=(1.0, 0.6, 1.5))
    sides = [view.side(0, step) for step in range(40)]
    assert set(sides) == {32, 16, 48} and sides == [view.side(0, step) for step in range(40)]


def stream(pairs, start, stop, **split):
    return list(batches(pairs, Augmentation(16, 8), Split(6, **split), 0, start, stop))


def test_a_run_that_goes_on_and_any_split_see_the_same(tmp_path):
    pairs = open_pairs("cc3m", write_set(tmp_path, 8))
    whole = stream(pairs, 0, 5)
    again = stream(pairs, 3, 5)
    assert all(
        torch.equal(a.images, b.images) and a.captions == b.captions
        for a, b in zip(whole[3:], again, strict=True)
    )
    ranks = [stream(pairs, 0, 5, rank=rank, world=3, accumulate=2) for rank in range(3)]
    for step in range(5):
        parts = [ranks[rank][2 * step + part] for part in range(2) for rank in range(3)]
        assert torch.equal(torch.cat([part.images for part in parts]), whole[step].images)
        assert [text for part in parts for text in part.captions] == whole[step].captions
    assert not torch.equal(
        whole[0].images, list(batches(pairs, Augmentation(16, 8), Split(6), 1, 0, 1))[0].images
    )


def test_a_broken_picture_is_replaced_by_the_next_and_told(tmp_path):
    root = write_set(tmp_path, 6)
    for number in (2, 3):
        (root / f"cc3m/train/image/cc3m_{number:04d}.jpg").write_bytes(b"\xff\xd8 no picture")
    pairs = open_pairs("cc3m", root)
    order = Order(6, 0)
    seen = stream(pairs, 0, 1)[0]
    wanted = [caption(4 if order[i] in (2, 3) else order[i]) for i in range(6)]
    assert seen.captions == wanted
    assert {item.id for item in seen.skipped} == {"cc3m_0002", "cc3m_0003"}
    assert torch.equal(seen.images, stream(pairs, 0, 1)[0].images)


def test_pictures_that_are_all_broken_are_the_datas_fault(tmp_path):
    root = write_set(tmp_path, 3)
    for path in (root / "cc3m/train/image").iterdir():
        path.write_bytes(b"")
    with pytest.raises(TTDError, match="3 images in a row cannot be read"):
        stream(open_pairs("cc3m", root), 0, 1)


def test_an_input_without_usable_captions_is_refused(tmp_path):
    root = write_set(tmp_path, 1)
    (root / "cc3m/train/json/cc3m_0000.json").write_text("{}")
    with pytest.raises(TTDError, match="no usable pair"):
        open_pairs("cc3m", root)
