"""The list of releases, and what is remembered of them."""

import hashlib
import json

import pytest
from file_server import File, Server
from small_archives import EXPECTED, content, zipped

from core.data.download.catalogue import Release, read_catalogue
from core.data.download.links import Policy
from core.data.download.store import ByHand, Store
from core.errors import TTDError
from core.utils.shipped import shipped

TOLD = {"what": "a set", "page": "https://page", "licence": "not stated", "source": "its README"}
HERE = Policy(plain_http=True, timeout=2.0, tries=1, pause=0.0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "downloads", {"weights": tmp_path / "weights"}, HERE)


def release(**more):
    return Release(**{**TOLD, "to": "f.bin", **more})


def test_the_list_that_ships_claims_no_sum_that_is_not_published():
    releases = read_catalogue(shipped("configs/downloads.yaml"))
    for name, one in releases.items():
        assert one.page.startswith(("https://", "http://")), name
        assert all([one.what, one.licence, one.source, one.to]), name
        assert one.url is None or one.url.startswith(("https://", "http://")), name
    known = {name for name, one in releases.items() if one.sums}
    clip = releases["ViT-B-16.pt"]  # its address holds the sum
    assert clip.sha256 == clip.url.split("/")[-2]
    assert known == {"ViT-B-16.pt", "VOC2012", "VOC2010"}


@pytest.mark.slow  # torchvision is slow to import
def test_sums_of_voc_are_those_of_torchvision():
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    releases = read_catalogue(shipped("configs/downloads.yaml"))
    for year in ("2012", "2010"):
        one, known = releases[f"VOC{year}"], DATASET_YEAR_DICT[year]
        assert (one.md5, one.to) == (known["md5"], known["filename"])


@pytest.mark.parametrize(
    ("text", "match"),
    [("x: 3", "must be lines"), ("x: {what: a}", "is missing"), ("x: {ur: a}", "unknown setting"),
     ("- 1", "settings must be"), ("x: {%s, to: ../f}", "leaves the folder"),
     ("x: {%s, to: /f}", "leaves the folder"), ("x: {%s, to: f, unpack: a/../../b}", "leaves"),
     ("x: {%s, to: f, md5: abc}", "md5 must be"), ("x: {%s, to: f, size: many}", "must be int")],
)  # fmt: skip
def test_lists_that_are_wrong(tmp_path, text, match):
    told = ", ".join(f'{key}: "{value}"' for key, value in TOLD.items())
    (tmp_path / "l.yaml").write_text(text.replace("%s", told))
    with pytest.raises(TTDError, match=match) as error:
        read_catalogue(tmp_path / "l.yaml")
    assert "\n" not in str(error.value)


def test_what_was_measured_first_is_compared_later(store):
    with Server() as server:
        server.routes["/f"] = File(b"first")
        one = release(url=f"{server.url}/f")
        path = store.ensure("f", one)
        record = json.loads((store.downloads / "sums.json").read_text())["f"]
        assert record["sha256"] == hashlib.sha256(b"first").hexdigest() and record["size"] == 5
        assert store.ensure("f", one) == path and len(server.asked) == 1
        path.unlink()
        server.routes["/f"] = File(b"other")
        with pytest.raises(TTDError, match="when it was seen first it was .* take f out of"):
            store.ensure("f", one)
        path.write_bytes(b"first")
        assert store.ensure("f", one) == path


def test_a_published_sum_wins_over_what_was_seen(store):
    store.downloads.mkdir()
    path = store.downloads / "f.bin"
    path.write_bytes(b"mine")
    store.ensure("f", release())  # put there by hand: its sum is kept
    sums = {"sha256": hashlib.sha256(b"theirs").hexdigest()}
    with pytest.raises(TTDError, match="published is .*delete it"):
        store.ensure("f", release(**sums))
    path.write_bytes(b"theirs")
    assert store.ensure("f", release(**sums)) == path
    with pytest.raises(TTDError, match="6 bytes, published are 9"):
        path.touch()
        store.ensure("f", release(size=9))


def test_a_damaged_record_is_made_again(store):
    store.downloads.mkdir()
    (store.downloads / "f.bin").write_bytes(b"x")
    for text in ("{", "[]", '{"f": 3}', '{"f": {"stamp": 0}}'):
        (store.downloads / "sums.json").write_text(text)
        store.ensure("f", release())
        assert json.loads((store.downloads / "sums.json").read_text())["f"]["size"] == 1


def test_by_hand(store):
    assert store.state(release()) == "by hand"
    with pytest.raises(
        ByHand, match=r"f.bin is not there: open https://page \(licence: not stated"
    ):
        store.ensure("f", release())
    folder = release(to="set", holds=("image", "json"))
    (store.downloads / "set" / "image").mkdir(parents=True)
    with pytest.raises(ByHand, match="has no json: open .* and unpack it to"):
        store.ensure("f", folder)
    (store.downloads / "set" / "json").mkdir()
    assert store.state(folder) == "there"
    assert store.ensure("f", folder) == store.downloads / "set"


def test_a_link_that_has_moved_names_the_page(store):
    with Server() as server:
        one = release(url=f"{server.url}/gone", to="weights/w.pt")
        assert store.state(one) == "to fetch" and store.place(one).parent.name == "weights"
        careful = Store(store.downloads, policy=Policy())
        assert careful.state(one) == "by hand, or with --allow-http"
        with pytest.raises(TTDError, match=r"has moved \(its page: https://page; put it to .*w.pt"):
            store.ensure("f", one)


def test_an_archive_is_unpacked_once(store, tmp_path):
    with Server() as server:
        server.routes["/a.zip"] = File(zipped(tmp_path / "a.zip").read_bytes())
        one = release(url=f"{server.url}/a.zip", to="a.zip", unpack="VOC")
        folder = store.ensure("a", one)
        assert folder == store.downloads / "VOC" and content(folder) == EXPECTED
        (folder / "VOC/a.txt").unlink()
        store.ensure("a", one)
        assert "VOC/a.txt" not in content(folder) and len(server.asked) == 1


def test_what_is_there_in_part_is_said(store):
    store.downloads.mkdir()
    (store.downloads / ".f.bin.part").write_bytes(b"123")
    assert store.state(release(url="https://h/f")) == "partly there: 3 bytes"
