"""Fetching that was stopped, or broke off: what is taken up again, and what begins anew."""

from fetches import DATA, MD5, SHA, get, names, refused
from file_server import File

from core.data.download.part import Part


def test_a_transfer_that_breaks_off_is_resumed_with_the_rest_alone(server, tmp_path):
    get(server, tmp_path, File(DATA, cuts=[100_000, 50_000]))
    assert (tmp_path / "f").read_bytes() == DATA and names(tmp_path) == ["f"]
    assert server.ranges() == [None, "bytes=100000-", "bytes=150000-"]


def test_what_a_broken_run_leaves_the_next_one_resumes(server, tmp_path):
    refused(server, tmp_path, File(DATA, cuts=[7, 5, 3]), "broke off after 15 bytes.*resumes")
    assert names(tmp_path) == [".f.part", ".f.part.json"]
    get(server, tmp_path, File(DATA))
    assert (tmp_path / "f").read_bytes() == DATA and server.ranges()[-1] == "bytes=15-"


def test_another_version_of_the_file_is_not_joined_to_the_first(server, tmp_path):
    refused(server, tmp_path, File(bytes(300_000), cuts=[9, 9, 9]), "broke off")
    get(server, tmp_path, File(DATA, tag='"2"'))
    assert (tmp_path / "f").read_bytes() == DATA


def test_without_a_version_only_a_published_sum_lets_it_resume(server, tmp_path):
    refused(server, tmp_path, File(DATA, tag=None, cuts=[9, 9, 9]), "after 9 bytes")
    assert server.ranges() == [None] * 3
    get(server, tmp_path, File(DATA, tag=None), sums={"sha256": SHA})
    assert server.ranges()[-1] == "bytes=9-" and (tmp_path / "f").read_bytes() == DATA


def test_a_beginning_of_another_file_is_fetched_again(server, tmp_path):
    (tmp_path / ".f.part").write_bytes(b"something else")
    get(server, tmp_path, File(DATA), sums={"md5": MD5})
    assert (tmp_path / "f").read_bytes() == DATA and server.ranges() == ["bytes=14-", None]


def test_a_server_without_ranges_begins_again(server, tmp_path):
    get(server, tmp_path, File(DATA, ranges=False, cuts=[100]))
    assert (tmp_path / "f").read_bytes() == DATA


def test_stopped_between_the_last_byte_and_its_name(server, tmp_path):
    url = f"{server.url}/f"
    with Part(tmp_path / "f") as part:
        part.note(url, '"1"', len(DATA))
        part.write(DATA)
    get(server, tmp_path, File(DATA), sums={"sha256": SHA})
    assert server.asked == [] and (tmp_path / "f").read_bytes() == DATA


def test_a_part_longer_than_the_file(server, tmp_path):
    with Part(tmp_path / "f") as part:
        part.note(f"{server.url}/f", '"1"', 999_999)
        part.write(bytes(400_000))

    def answer(handler):
        if handler.headers.get("Range"):
            handler.send_error(416)
        else:
            File(DATA)(handler)

    get(server, tmp_path, answer)
    assert (tmp_path / "f").read_bytes() == DATA
