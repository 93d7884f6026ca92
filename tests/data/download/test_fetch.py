"""Fetching: good transfers, and servers that are wrong in every way."""

import hashlib
import os
import time

import pytest
from fetches import DATA, HERE, MD5, SHA, get, names, refused
from file_server import File
from limits import limited

import core.data.download.fetch as fetching
from core.data.download.fetch import Link, fetch
from core.data.download.links import Policy
from core.data.download.part import Part
from core.errors import TTDError


def test_a_whole_file(server, tmp_path):
    seen = []
    server.routes["/f"] = File(DATA)
    link = Link(f"{server.url}/f", len(DATA), {"sha256": SHA, "md5": MD5})
    found = fetch(link, tmp_path / "f", HERE, lambda *counts: seen.append(counts))
    assert (found.size, found.sha256, found.sums["md5"]) == (len(DATA), SHA, MD5)
    assert (tmp_path / "f").read_bytes() == DATA and names(tmp_path) == ["f"]
    assert seen[-1] == (len(DATA), len(DATA)) and seen == sorted(seen)
    assert server.asked[0][1]["Accept-Encoding"] == "identity"


def test_wrong_sums_keep_nothing_and_spare_what_was_there(server, tmp_path):
    other = hashlib.sha256(b"x").hexdigest()
    refused(server, tmp_path, File(DATA), f"sha256 is {SHA}, published is {other}",
            sums={"sha256": other})  # fmt: skip
    assert names(tmp_path) == []
    (tmp_path / "f").write_bytes(b"before")
    with pytest.raises(TTDError, match="md5 is"):
        get(server, tmp_path, File(DATA), sums={"md5": "0" * 32})
    assert (tmp_path / "f").read_bytes() == b"before"


@pytest.mark.parametrize("sums", [{"sha256": "abc"}, {"md5": "G" * 32}, {"crc": "0"}])
def test_sums_that_are_none_are_refused_before_anything_is_asked(server, tmp_path, sums):
    refused(server, tmp_path, File(DATA), "checksum|must be", sums=sums)
    assert server.asked == []


def test_another_size_than_published(server, tmp_path):
    refused(server, tmp_path, File(DATA), "has 300000 bytes, published are 7", size=7)
    assert names(tmp_path) == []


def endless(handler, length=None):
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


@pytest.mark.parametrize("length", [None, 10**17])
def test_a_body_without_an_end(server, tmp_path, length):
    def answer(handler):
        endless(handler, length)

    refused(server, tmp_path, answer, "more than the 1000|at most 1000|published are",
            size=None if length else 1000, most=1000)  # fmt: skip
    assert names(tmp_path) == []


def test_a_body_of_unknown_length_needs_a_size_or_a_sum(server, tmp_path):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(DATA)
        handler.close_connection = True

    refused(server, tmp_path, answer, "does not say how long")
    assert get(server, tmp_path, answer, sums={"sha256": SHA}).size == len(DATA)


def test_a_page_about_the_file_is_not_the_file(server, tmp_path):
    refused(server, tmp_path, File(b"<html>sign in", kind="text/html; charset=utf-8"), "web page")
    refused(server, tmp_path, File(b"x", headers={"Content-Encoding": "gzip"}), "packs it")


@pytest.mark.parametrize(
    ("status", "match"),
    [(404, "the link has moved"), (410, "moved"), (401, "sign-in"), (403, "licence"), (500, "500"),
     (302, "answers 302"), (204, "without a file"), (200, "empty file"), (418, "418")],
)  # fmt: skip
def test_what_a_status_means(server, tmp_path, status, match):
    refused(server, tmp_path, (status, {}), match)
    assert len(server.asked) == (3 if status == 500 else 1) and names(tmp_path) == []


def test_a_server_that_is_busy_is_asked_again(server, tmp_path, monkeypatch):
    waits, answers = [], [(503, {"Retry-After": "7"}), (429, {"Retry-After": "99999"}), File(DATA)]
    monkeypatch.setattr(time, "sleep", waits.append)

    def answer(handler):
        now = answers.pop(0)
        if callable(now):
            return now(handler)
        handler.send_response(now[0])
        handler.send_header("Retry-After", now[1]["Retry-After"])
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    get(server, tmp_path, answer)
    assert waits == [7.0, 60.0]


def test_links_that_have_moved_are_followed_a_few_times(server, tmp_path):
    server.routes |= {"/a": (302, {"Location": "/b?x=1"}), "/b?x=1": (307, {"Location": "c"})}
    server.routes["/c"] = File(DATA)
    assert get(server, tmp_path, (301, {"Location": f"{server.url}/a"})).sha256 == SHA
    (tmp_path / "f").unlink()
    refused(server, tmp_path, (302, {"Location": "/f"}), "more than 5 redirects")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://h/x", "https://u:p@h/x"])
def test_redirects_to_what_is_no_web_address(server, tmp_path, place):
    refused(server, tmp_path, (302, {"Location": place}), "not an address|password")


def test_only_https_unless_http_is_allowed(server, tmp_path):
    refused(server, tmp_path, File(DATA), "plain http.*--allow-http", Policy())
    assert server.asked == []
    for url in (
        "ftp://h/f",
        "file:///etc/passwd",
        "https:///f",
        "https://h\n/f",
        "x",
        "https://[::",
    ):
        with pytest.raises(TTDError, match="not an address"):
            fetch(Link(url), tmp_path / "f", HERE)


def test_from_https_to_http_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("core.data.download.links._asked", lambda *a: "http://elsewhere/f")
    with pytest.raises(TTDError, match="leads from https to"):
        fetch(Link("https://h/f"), tmp_path / "f", HERE)


def test_a_server_that_stops_answering(server, tmp_path):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.3)

    quick = Policy(plain_http=True, timeout=0.05, tries=2, pause=0.0)
    refused(server, tmp_path, answer, "nothing for 0 s", quick)


def test_a_server_that_sends_a_byte_now_and_then(server, tmp_path):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.01)

    slow = Policy(plain_http=True, tries=1, window=0.05)
    refused(server, tmp_path, answer, r"bytes in 0 s", slow)


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_line_that_never_ends(server, tmp_path, head):
    """A timeout of the socket begins anew at every byte."""

    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
        for _ in range(60):
            handler.wfile.write(b"0")
            handler.wfile.flush()
            time.sleep(0.01)

    quick = Policy(plain_http=True, timeout=0.1, tries=1, patience=0.1)
    begun = time.monotonic()
    refused(server, tmp_path, answer, "nothing whole for 0 s", quick, sums={"sha256": SHA})
    assert time.monotonic() - begun < 0.5


def test_a_body_in_chunks(server, tmp_path):
    def answer(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for begin in range(0, len(DATA), 100_000):
            piece = DATA[begin : begin + 100_000]
            handler.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    assert get(server, tmp_path, answer, sums={"sha256": SHA}).size == len(DATA)


def test_headers_that_are_none(server, tmp_path):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n")
        handler.close_connection = True

    refused(server, tmp_path, answer, "broke off")
    refused(server, tmp_path, lambda h: h.wfile.write(b"\0\xff\n\n"), "broke off")
    refused(server, tmp_path, File(DATA, length=-5), "does not say|broke off")


def test_a_part_that_was_not_asked_for(server, tmp_path):
    def answer(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 5-9/10")
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"56789")

    refused(server, tmp_path, answer, "another part of the file")


def test_no_network(tmp_path):
    with pytest.raises(TTDError, match="broke off after 0 bytes .*127.0.0.1"):
        fetch(Link("http://127.0.0.1:9/f"), tmp_path / "f", HERE)
    assert names(tmp_path) == []


def test_no_room_is_said_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: type("", (), {"free": 10}))
    refused(server, tmp_path, File(DATA), "300000 bytes are needed, 10 are free")


def test_a_disk_that_fills_up_keeps_what_it_has(server, tmp_path):
    with limited(100_000):
        refused(server, tmp_path, File(DATA), "File too large.*make room.*resumes")
    assert 0 < (tmp_path / ".f.part").stat().st_size <= 100_000
    get(server, tmp_path, File(DATA))
    assert (tmp_path / "f").read_bytes() == DATA and server.ranges()[-1] is not None


def test_two_processes_do_not_fetch_one_file(server, tmp_path):
    with Part(tmp_path / "f"):
        refused(server, tmp_path, File(DATA), "another process is fetching it")


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(server, tmp_path):
    tmp_path.chmod(0o500)
    refused(server, tmp_path, File(DATA), "Permission denied; choose another folder")
    tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file(server, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(TTDError, match="cannot be written"):
        fetch(Link(f"{server.url}/f"), tmp_path / "x" / "f", HERE)
