"""The procedural world: bytes, layout, truth, and statistics like those of the published task."""

import hashlib
import itertools
import json
import re
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from core.data.words import is_stopword
from core.errors import TTDError
from core.world.captions import CLOSINGS, FILLERS, OPENERS, PLACES, visible_words
from core.world.demo_scene import demo_picture
from core.world.geometry import disc, stroke
from core.world.objects import NOUNS, noun_frequencies, parts_of
from core.world.palette import COLOURS, unseen_pairs
from core.world.picture import MIN_SHARE, Contents, Thing, index_map, silhouette
from core.world.sample import class_map, facts, make_sample, summarise, tag_mask
from core.world.scenes import SCENES, texture
from core.world.writer import WorldConfig, made_with, make_world

VAL = 300
PINNED = {
    "val": [
        "in the news this morning it was the green moon next to the cyan ball "
        "with something red for a happy birthday!",
        "a anchor for sale",
        "In the news this morning it was a blue key",
    ],
    "train": ["car", "fish", "There is a special red flower with the cyan butterfly on the sand"],
    "noisy": ["a car for sale", "ball", "a red butterfly with the blue flag!"],
    "pictures": 16,
}


def words_of(text: str) -> list[str]:
    """An independent split: pieces between white space, without outer punctuation, lower case."""
    words = [re.sub(r"^\W+|\W+$", "", piece).lower() for piece in text.split()]
    return [word for word in words if word]


def digest(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def samples():
    return [make_sample(11, "val", i) for i in range(VAL)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    return out, make_world(out, WorldConfig(train=70, val=12, seed=3, shards=True))


def test_vocabulary_of_the_world():
    assert len(NOUNS) >= 24 and len(SCENES) >= 6 and len(COLOURS) >= 8
    names = [*NOUNS, *SCENES, *COLOURS]
    assert len(set(names)) == len(names)  # no colour or scene is also a thing
    assert all(words_of(n) == [n] and not is_stopword(n) for n in names)
    frame = set(itertools.chain(*map(words_of, (*OPENERS, *CLOSINGS, *FILLERS))))
    assert not frame & set(names)  # unrelated words never turn out to be true
    frequency = noun_frequencies()
    assert (
        frequency.sum() == pytest.approx(1)
        and (np.diff(frequency) < 0).all()
        and frequency[0] > 5 * frequency[-1]
    )


def test_places_name_their_scene():
    for scene, phrases in PLACES.items():
        for phrase in phrases:
            assert [w for w in words_of(phrase) if w in SCENES] == [scene]


def test_disc_and_stroke_have_the_areas_of_geometry():
    def area(points):
        x, y = points.T
        return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2

    assert area(disc(0.2, -0.1, 0.5)) == pytest.approx(np.pi / 4, rel=0.02)
    assert area(stroke(np.array([[0.0, 0.0], [3.0, 4.0]]), 0.2)) == pytest.approx(1.0)


@pytest.mark.parametrize("noun", NOUNS)
def test_every_thing_has_a_body_in_its_colour_and_stays_in_its_square(noun):
    parts = parts_of(noun)
    assert any(p.paint == "main" for p in parts)
    points = np.concatenate(list(itertools.chain(*(part.contours for part in parts))))
    assert np.abs(points).max() <= 1.1
    assert silhouette(Thing(noun, "red", 0.5, 0.5, 0.15, 0), 96).mean() > MIN_SHARE / 2


def painted(noun: str) -> np.ndarray:
    """A thing as large as it gets -> uint8 [96, 96]: 0 nothing, 1 main, 2 dark, 3 light."""
    canvas = np.zeros((96, 96), np.uint8)
    for part in parts_of(noun):
        contours = [np.round(c * 40 + 48).astype(np.int32) for c in part.contours]
        cv2.fillPoly(canvas, contours, 1 + ("main", "dark", "light").index(part.paint))
    return canvas


def test_things_look_different():
    """Of the area that two things cover together, their looks agree on less than 70 %."""
    looks = [painted(noun) for noun in NOUNS]
    for i, a in enumerate(looks):
        for b in looks[:i]:
            assert ((a == b) & (a > 0)).sum() / ((a > 0) | (b > 0)).sum() < 0.7


@pytest.mark.parametrize("scene", SCENES)
def test_textures_are_muted(scene):
    pixels = texture(scene, 96, (0.3, 0.6)).reshape(-1, 3).mean(0)
    assert pixels.max() - pixels.min() < 70
    assert all(np.ptp(rgb) > 130 for rgb in COLOURS.values())


def test_a_picture_depends_on_nothing_but_seed_split_and_index():
    one, again = make_sample(5, "val", 17), make_sample(5, "val", 17)
    assert one.text == again.text and (one.image == again.image).all()
    others = [make_sample(6, "val", 17), make_sample(5, "train", 17), make_sample(5, "val", 18)]
    assert all((one.image != other.image).any() for other in others)


def test_captions_are_those_that_worlds_have_always_had():
    """A world is named by its seed: its captions must not change with the code."""
    first = [make_sample(0, "val", i).text for i in (0, 1, 2)]
    assert first == PINNED["val"]
    assert [make_sample(0, "train", i).text for i in (0, 1, 2)] == PINNED["train"]
    noisy = [make_sample(0, "train", i, noise=0.5).text for i in (0, 1, 2)]
    assert noisy == PINNED["noisy"]
    texts = [make_sample(1, "train", i, size=32).text for i in range(200)]
    assert sum("picture" in text for text in texts) == PINNED["pictures"]


def test_true_tags_are_exactly_the_visible_words_of_the_caption(samples):
    for s in samples:
        shown = (
            {t.noun for t in s.contents.things}
            | {t.colour for t in s.contents.things}
            | set(s.contents.scenes)
        )
        assert s.tags and len(set(s.tags)) == len(s.tags)
        assert (
            set(s.tags)
            == set(words_of(s.text)) & shown
            == set(words_of(s.text)) & visible_words(s.contents).words
        )


def test_masks_hold_the_tag_and_nothing_else(samples):
    for s in samples:
        for tag in s.tags:
            mask = tag_mask(s, tag)
            assert mask.shape == (96, 96) and mask.mean() >= MIN_SHARE
            for i, thing in enumerate(s.contents.things):
                assert mask[s.index == 2 + i].all() == (tag in (thing.noun, thing.colour))
        nouns = {NOUNS.index(t.noun) + 1 for t in s.contents.things}
        assert set(np.unique(class_map(s))) - {0} == nouns


def test_the_mask_of_a_colour_is_where_the_picture_has_it():
    thing = Contents(
        (Thing("ball", "blue", 0.3, 0.3, 0.2, 0), Thing("heart", "red", 0.7, 0.7, 0.2, 0)),
        ("snow",),
    )
    index = index_map(thing, 96)
    assert (index[29, 22], index[67, 67], index[90, 5]) == (2, 3, 0)


def test_two_scenes_share_a_picture_over_and_beside():
    over = index_map(Contents((), ("night", "sand"), "over", 0.25), 96)
    beside = index_map(Contents((), ("brick", "grass"), "beside", 0.5), 96)
    assert (over[:24] == 0).all() and (over[24:] == 1).all()
    assert (beside[:, :48] == 0).all() and (beside[:, 48:] == 1).all()


def test_statistics_resemble_the_published_task(samples):
    measured = summarise([facts(s) for s in samples])
    true = content = words = painted = 0
    for s in samples:
        split = words_of(s.text)
        words += len(split)
        content += sum(not is_stopword(w) for w in split)
        true += sum(w in s.tags for w in split)
        painted += np.any([tag_mask(s, t) for t in s.tags], axis=0).mean()
    assert measured["true_tag_words"] == pytest.approx(100 * true / words, abs=0.01)
    assert measured["content_words_precision"] == pytest.approx(100 * true / content, abs=0.01)
    assert measured["all_foreground_caption_iou"] == pytest.approx(100 * painted / VAL, abs=0.01)
    assert 25 <= measured["true_tag_words"] <= 31
    assert 55 <= measured["content_words_precision"] <= 65
    assert measured["all_foreground_caption_iou"] <= 35
    assert measured["captions_naming_a_scene"] <= 30
    assert 27 <= measured["captions_with_an_absent_word"] <= 40


def test_unseen_pairs_are_kept_out_of_training_and_come_in_validation(samples):
    pairs = {(n, c) for n, c in unseen_pairs()}
    assert {n for n, _ in pairs} == set(NOUNS)
    for i in range(300):
        s = make_sample(11, "train", i)
        assert not pairs & {(t.noun, t.colour) for t in s.contents.things}
        split = words_of(s.text)
        assert not pairs & {(noun, colour) for colour, noun in zip(split, split[1:], strict=False)}
    shown = [bool(pairs & {(t.noun, t.colour) for t in s.contents.things}) for s in samples]
    assert 0.1 < np.mean(shown) < 0.4


def test_layout_and_schemas(world):
    out, described = world
    stems = {p.stem for p in (out / "cc3m/train/image").iterdir()}
    assert len(stems) == 70 and stems == {p.stem for p in (out / "cc3m/train/json").iterdir()}
    root = out / "cc3m_for_evaluation"
    for path in sorted((root / "json_refined").iterdir()):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert set(record) == {"text", "tags"}
        assert {p.stem for p in (root / "mask_using_HQ-SAM" / path.stem).iterdir()} == set(
            record["tags"]
        )
        for tag in record["tags"]:
            mask = cv2.imread(
                str(root / "mask_using_HQ-SAM" / path.stem / f"{tag}.png"), cv2.IMREAD_UNCHANGED
            )
            assert mask.shape == (96, 96) and set(np.unique(mask)) <= {0, 255} and mask.any()
        assert (root / f"image/{path.stem}.jpg").read_bytes() == (
            out / f"World/validation/image/{path.stem}.jpg"
        ).read_bytes()
    assert set(json.loads((out / "cc3m/train/json/train_000000.json").read_text())) == {"text"}
    stored = yaml.safe_load((out / "world.yaml").read_text())
    assert (
        stored == described
        and stored["classes"] == list(NOUNS)
        and stored["made_with"]["seed"] == 3
    )
    assert stored["measured"]["val"]["pictures"] == 12
    assert not list(out.rglob(".*part"))


def test_index_masks_are_palette_pictures_of_the_classes(world):
    from PIL import Image

    out, _ = world
    for i in range(12):
        with Image.open(out / f"World/validation/mask/val_{i:06d}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), class_map(make_sample(3, "val", i)))


def test_pictures_survive_jpeg(world):
    out, _ = world
    stored = cv2.imread(str(out / "cc3m/train/image/train_000000.jpg"))[..., ::-1]
    assert np.abs(stored.astype(int) - make_sample(3, "train", 0).image).mean() < 5


def test_shards_hold_the_training_pairs(world):
    out, _ = world
    with tarfile.open(out / "shards/00000.tar") as tar:
        members = tar.getmembers()
        assert [m.name for m in members[:2]] == ["train_000000.jpg", "train_000000.txt"] and len(
            members
        ) == 140
        for member in members:
            data = tar.extractfile(member).read()
            stem, ending = member.name.split(".")
            if ending == "jpg":
                assert data == (out / f"cc3m/train/image/{stem}.jpg").read_bytes()
            else:
                assert (
                    data.decode()
                    == json.loads((out / f"cc3m/train/json/{stem}.json").read_text())["text"]
                )


def test_same_bytes_whatever_the_workers_and_when_run_again(world, tmp_path):
    out, _ = world
    config = WorldConfig(train=70, val=12, seed=3, shards=True)
    before = digest(out)
    make_world(tmp_path, config, workers=2)
    assert digest(tmp_path) == before
    make_world(out, config)
    assert digest(out) == before


def test_a_longer_world_begins_like_a_shorter_one(world, tmp_path):
    out, _ = world
    make_world(tmp_path, WorldConfig(train=2, val=1, seed=3))
    short, long = digest(tmp_path), digest(out)
    assert all(long[name] == value for name, value in short.items() if name != "world.yaml")


def test_worlds_are_not_mixed(world, tmp_path):
    make_world(tmp_path, WorldConfig(train=3, val=1, seed=3))
    with pytest.raises(TTDError, match="another world"):
        make_world(tmp_path, WorldConfig(train=1, val=1, seed=4))
    make_world(tmp_path, WorldConfig(train=1, val=1, seed=4), overwrite=True)
    assert len(list((tmp_path / "cc3m/train/image").iterdir())) == 1


def test_bad_requests_are_one_clear_line(tmp_path):
    with pytest.raises(TTDError, match="--size 8"):
        make_world(tmp_path / "a", WorldConfig(size=8))
    with pytest.raises(TTDError, match="0 or more"):
        make_world(tmp_path / "a", WorldConfig(train=-1))
    (tmp_path / "file").write_text("")
    with pytest.raises(TTDError, match="cannot write the world under"):
        make_world(tmp_path / "file", WorldConfig(train=0, val=1))


def test_the_demo_picture_at_any_size():
    for size in (96, 384):
        image, text, tags = demo_picture(size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert tags == ["red", "house", "tree", "purple", "bird"] and "fish" in text


@pytest.mark.parametrize("damage", [b"", b"{", b"a: [1", b"\xff\xfe", b"made_with: 3", bytes(90)])
@pytest.mark.parametrize("mark", ["world.yaml", ".world.part"])
def test_a_damaged_mark_is_named_and_the_world_can_be_made_again(tmp_path, damage, mark):
    config = WorldConfig(train=1, val=1, seed=4)
    make_world(tmp_path, config)
    whole = (tmp_path / "world.yaml").read_bytes()
    (tmp_path / "world.yaml").rename(tmp_path / mark)
    (tmp_path / mark).write_bytes(damage)
    with pytest.raises(TTDError, match=f"{mark}: damaged, .*--overwrite"):
        make_world(tmp_path, config)
    make_world(tmp_path, config, overwrite=True)
    assert (tmp_path / "world.yaml").read_bytes() == whole and made_with(tmp_path / mark) != 3
    assert not (tmp_path / ".world.part").exists()


def test_a_damaged_story_world_is_made_again(tmp_path):
    from story_parts import make_story_world

    make_story_world(tmp_path, 2, 1, workers=1)
    whole = (tmp_path / "world.yaml").read_bytes()
    (tmp_path / "world.yaml").write_bytes(b"{")
    make_story_world(tmp_path, 2, 1, workers=1)
    assert (tmp_path / "world.yaml").read_bytes() == whole
