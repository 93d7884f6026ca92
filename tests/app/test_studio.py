"""Pictures and models of several people: encoded once, bounded, one question at a time."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_studio import picture, studio

from core.app import studio as module
from core.app.captions import ask_caption
from core.app.studio import NotLoadedError
from core.app.uploads import make_room
from core.errors import TTDError


def test_an_image_is_encoded_once_for_each_model_and_adapter(tmp_path, monkeypatch):
    desk, loaded = studio(monkeypatch)
    path, again = picture(tmp_path), picture(tmp_path, "copy.png")
    for file, adapter, pamr in ((path, "", False), (again, "", True), (path, "one+more", False)):
        ask_caption(desk, file, "red blue", "one", adapter, pamr)
    assert desk.encoded == 2 and loaded == [("one", None), ("one", "one+more.pt")]
    ask_caption(desk, picture(tmp_path, "b.png", at=(0, 0)), "red", "one", "", False)
    assert desk.encoded == 3 and len(loaded) == 2


def test_the_oldest_pictures_make_room(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    paths = [picture(tmp_path, f"{k}.png", at=(0, k)) for k in range(3)]
    ask_caption(desk, paths[0], "red", "one", "", False)
    one = desk.held
    desk, _ = studio(monkeypatch, memory=int(2.5 * one))
    for path in (paths[0], paths[1], paths[0], paths[2]):
        ask_caption(desk, path, "red", "one", "", False)
        assert desk.held <= 2.5 * one
    assert desk.encoded == 3
    ask_caption(desk, paths[0], "red", "one", "", False)  # asked lately: still known
    assert desk.encoded == 3
    ask_caption(desk, paths[1], "red", "one", "", False)  # not asked longest: encoded anew
    assert desk.encoded == 4


def test_nothing_is_kept_where_there_is_no_room_and_answers_are_the_same(tmp_path, monkeypatch):
    path = picture(tmp_path)
    roomy, _ = studio(monkeypatch)
    cramped, _ = studio(monkeypatch, memory=1)
    asked = [ask_caption(desk, path, "red blue", "one", "", True) for desk in (roomy, cramped)]
    assert asked[0] == asked[1] and cramped.held == 0


def test_what_is_held_counts_texts_and_refinement(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    path = picture(tmp_path)
    ask_caption(desk, path, "red", "one", "", False)
    before = desk.held
    ask_caption(desk, path, "red", "one", "", True)
    edges = 48 * 48 * 64 * 4  # PAMR's 48 weights for every pixel, as float32
    assert desk.held == before + edges
    ask_caption(desk, path, "green", "one", "", False)
    assert desk.held == before + edges + 4 * 4  # one more embedding of four numbers


def test_only_so_many_models_are_loaded(tmp_path, monkeypatch):
    desk, loaded = studio(monkeypatch, models=1)
    path = picture(tmp_path)
    for model in ("one", "two", "one"):
        ask_caption(desk, path, "red", model, "", False)
    assert loaded == [("one", None), ("two", None), ("one", None)]


def test_a_visitor_does_not_see_where_a_damaged_file_is(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)

    def damaged(arch, lora=None, **options):
        raise TTDError(f"/srv/private/{arch}.pt: is not a readable weight file")

    monkeypatch.setattr(module, "load_backbone", damaged)
    with pytest.raises(NotLoadedError) as found:
        ask_caption(desk, picture(tmp_path), "red", "one", "one+more", False)
    assert "/" not in str(found.value) and str(found.value).startswith("one cannot be loaded")
    assert found.value.reason == "/srv/private/one.pt: is not a readable weight file"


def test_one_forward_pass_at_a_time_and_none_lost(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    paths = [picture(tmp_path, f"{k}.png", at=(0, k)) for k in range(20)]
    busy, most, answers = [], [], []
    inner = desk.predictor

    def slow(*args, **kwargs):
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.005)
        found = inner(*args, **kwargs)
        busy.pop()
        return found

    monkeypatch.setattr(desk, "predictor", slow)

    def ask(k):
        answers.append((k, ask_caption(desk, paths[k], "red blue", "one", "", False)))

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(answers) == 20
    for k, answer in answers:  # everybody gets the own picture's answer
        assert answer["picture"]["name"] == f"{k}.png"
        alone = ask_caption(studio(monkeypatch)[0], paths[k], "red blue", "one", "", False)
        assert alone == answer


def test_a_large_picture_is_reduced_and_says_so(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch, side=40)
    answer = ask_caption(desk, picture(tmp_path, size=(60, 80)), "red", "one", "", False)
    assert answer["picture"]["note"] == "80 x 60 pixels, reduced to 40 x 30"
    assert (answer["picture"]["width"], answer["picture"]["height"]) == (40, 30)


def bomb(path):
    """A PNG of few bytes that declares 60,000 x 60,000 pixels."""
    small = path.with_name("small.png")
    Image.new("1", (8, 8)).save(small)
    data = bytearray(small.read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.png", "empty"),
        ("text.png", "not an image"),
        ("cut.png", "damaged|truncated|not an image"),
        ("bomb.png", "million pixels|damaged|not an image"),
        ("script.svg", "not an image"),
        ("large.png", "larger than 1 MB"),
        ("gone.png", "no such file"),
    ],
)
def test_hostile_uploads_are_one_line_that_names_the_file_and_no_folder(
    tmp_path, monkeypatch, name, words
):
    desk, _ = studio(monkeypatch, upload=2**20)
    path = tmp_path / name
    contents = {
        "empty.png": b"",
        "text.png": b"a login page",
        "cut.png": Path(picture(tmp_path)).read_bytes()[:60],
        "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "large.png": bytes(2**20 + 1),
    }
    if name in contents:
        path.write_bytes(contents[name])
    if name == "bomb.png":
        bomb(path)
    with pytest.raises(TTDError, match=words) as caught:
        ask_caption(desk, str(path), "red", "one", "", False)
    assert name in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)
    good = ask_caption(desk, picture(tmp_path), "red", "one", "", False)  # it goes on
    assert good["words"] == ["red"]


def test_no_picture_no_model_no_adapter(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    path = picture(tmp_path)
    for arguments, words in (
        ((None, "red", "one", ""), "no picture yet"),
        ((path, "red", "three", ""), "no model 'three'"),
        ((path, "red", "two", "one+more"), "no adapter 'one.more' for two"),
    ):
        with pytest.raises(TTDError, match=words):
            ask_caption(desk, *arguments, False)


def test_the_oldest_uploads_make_room(tmp_path):
    import os

    for k, size in enumerate((300, 200, 100)):
        file = tmp_path / f"folder{k}" / "a.png"
        file.parent.mkdir()
        file.write_bytes(bytes(size))
        os.utime(file, (k, k))
    assert make_room(tmp_path, 600) == 0
    assert make_room(tmp_path, 350) == 1
    assert sorted(path.stat().st_size for path in tmp_path.rglob("*.png")) == [100, 200]
    assert make_room(tmp_path, 0) == 2


def test_pixels_are_not_changed_by_what_is_shown(tmp_path, monkeypatch):
    desk, _ = studio(monkeypatch)
    path = picture(tmp_path)
    with desk.picture(path) as found:
        np.testing.assert_array_equal(found.pixels, np.asarray(Image.open(path)))
        assert found.shown_size == (48, 64) and found.shown.startswith("data:image/jpeg;base64,")
