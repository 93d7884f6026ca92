"""Result files: published names, lines, and what is left after every way to be interrupted."""

import itertools
import json
from contextlib import closing, contextmanager

import pytest

from core.data.records import Record, Skipped
from core.data.words import split_words
from core.errors import TTDError
from core.tags.results import ResultPaths, format_line, is_finished, read_results, result_name
from core.tags.writer import TagWriter
from core.utils.files import read_json, write_json

IDENTITY = {"root": "set", "batch": 4, "checksum": "abc"}
META = {"identity": IDENTITY}
SCORERS = ("pixel", "image")
ORDER = (
    "x@pixel.skipped.jsonl",
    "x@image.skipped.jsonl",
    "x@pixel.jsonl",
    "x@image.jsonl",
)  # of writing a batch
UNUSABLE = {1, 5, 6, 7, 8, 9, 10, 11, 14}  # of 18 records: some of a batch, all of a batch


def line(index, scorer):
    text = f'caption "selected": true {index} \\"selected\\": true é\u2028'
    words = split_words(text)[:3]
    record = Record(index, f"id{index}", None, f"image/{index}.jpg", text)
    return format_line(
        record, words, [0.1] * 3, [1 / 3] * 3, [True, False, scorer == "pixel"], [(1, 2)] * 3
    )


def batches(first=0, size=4):
    for start in range(first, 18, size):
        rows = range(start, min(18, start + size))
        usable = [i for i in rows if i not in UNUSABLE]
        lines = {}
        for name in SCORERS:
            lines[name] = [line(i, name) for i in usable]
        yield lines, [Skipped(i, f"id{i}", "bad") for i in rows if i in UNUSABLE]


def paths(folder):
    return {name: ResultPaths.of(folder, f"x@{name}") for name in SCORERS}


def produce(folder, stop=None):
    writer = TagWriter(paths(folder), META, 4)
    for lines, skipped in list(batches(writer.done))[:stop]:
        writer.write(lines, skipped)
    if stop is None:
        writer.finish(seconds=1)
    writer.close()
    return writer


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if "meta" not in path.name}


def test_published_names():
    assert result_name("TCL", 224, (1.0,), "pixel", True) == "TCL_224_[1.0]@pixel+TTD"
    assert result_name("tiny", 96, (1, 0.5), "text") == "tiny_96_[1.0, 0.5]@text"
    assert (
        result_name("hf-hub:a/b", 8, (1.0,), "image", extras={"normalize": "none", "limit": 3})
        == "hf-hub_a_b_8_[1.0]@image@normalize=none@limit=3"
    )


def test_a_line_is_as_specified():
    row = json.loads(line(3, "pixel"))
    assert list(row) == ["id", "image", "text", "words"] and (row["id"], row["image"]) == (
        "id3",
        "image/3.jpg",
    )
    assert row["words"][0] == {
        "word": "caption",
        "start": 0,
        "end": 7,
        "score": 0.1,
        "norm": 0.33333,
        "selected": True,
        "xy": [1, 2],
    }
    assert all(row["text"][word["start"] : word["end"]] == word["word"] for word in row["words"])
    assert '"score": 0.10000, "norm": 0.33333' in line(3, "pixel")


def test_counts_are_those_of_the_words(tmp_path):
    writer = produce(tmp_path)
    assert writer.counts["pixel"] == {"captions": 9, "words": 27, "selected": 18, "skipped": 9}
    assert writer.counts["image"]["selected"] == 9
    meta = read_json(paths(tmp_path)["image"].meta)
    assert (
        meta["counts"]["words"] == 27
        and meta["finished"]
        and meta["scorer"] == "image"
        and meta["seconds"] == 1
    )
    assert len(read_results(paths(tmp_path)["pixel"].lines)) == 9


def test_nothing_skipped_leaves_no_list(tmp_path):
    writer = TagWriter(paths(tmp_path), META, 4)
    writer.write({name: [line(0, name)] for name in SCORERS}, [])
    writer.close()
    assert not list(tmp_path.glob("*.skipped.jsonl"))


def test_cut_anywhere_it_ends_the_same(tmp_path):
    produce(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    # What is on disk after a kill: everything up to some byte of the stream in the order it is
    # written.
    for stop in range(6):
        cuts = itertools.product(whole, (0, 0.3, 0.7, 0.99))
        for file, kept in [(None, 0), *cuts]:
            folder = tmp_path / f"{stop}-{file}-{kept}"
            produce(folder, stop)
            if file and (folder / file).exists():
                data = (folder / file).read_bytes()
                previous = _sizes(tmp_path, max(0, stop - 1))
                start = previous.get(file, 0)
                (folder / file).write_bytes(data[: start + int((len(data) - start) * kept)])
                for name in ORDER[
                    ORDER.index(file) + 1 :
                ]:  # not yet written when this file was cut short
                    if (folder / name).exists():
                        (folder / name).write_bytes(
                            (folder / name).read_bytes()[: previous.get(name, 0)]
                        )
            writer = produce(folder)
            assert content(folder) == whole
            assert writer.counts["pixel"] == {
                "captions": 9,
                "words": 27,
                "selected": 18,
                "skipped": 9,
            }


def _sizes(tmp_path, stop):
    folder = tmp_path / f"sizes{stop}"
    if not folder.exists():
        produce(folder, stop)
    return {name: len(data) for name, data in content(folder).items()}


def test_at_most_one_batch_is_done_again(tmp_path):
    for stop in range(5):
        folder = tmp_path / str(stop)
        produce(folder, stop)
        writer = TagWriter(paths(folder), META, 4)
        assert writer.done == 4 * stop
        writer.close()


def test_what_differs_is_named(tmp_path):
    produce(tmp_path)
    path = paths(tmp_path)["pixel"]
    assert is_finished(path, IDENTITY) and not is_finished(path, IDENTITY, overwrite=True)
    with pytest.raises(TTDError, match='checksum: "abc", not "xyz"') as error:
        is_finished(path, IDENTITY | {"checksum": "xyz"})
    assert "--overwrite" in str(error.value) and "batch" not in str(error.value)
    assert not is_finished(ResultPaths.of(tmp_path, "other"), IDENTITY)


def test_lines_of_unknown_origin_are_not_touched(tmp_path):
    produce(tmp_path)
    path = paths(tmp_path)["pixel"]
    path.meta.unlink()
    with pytest.raises(TTDError, match="not known"):
        is_finished(path, IDENTITY)


def test_overwriting_starts_from_nothing(tmp_path):
    produce(tmp_path)
    whole = content(tmp_path)
    writer = TagWriter(paths(tmp_path), META, 4, overwrite=True)
    assert writer.done == 0 and not read_json(paths(tmp_path)["pixel"].meta)["finished"]
    assert not any(content(tmp_path).values())
    writer.close()
    produce(tmp_path)
    assert content(tmp_path) == whole


def test_a_second_run_on_the_same_files_is_refused(tmp_path):
    pytest.importorskip("fcntl")
    writer = TagWriter(paths(tmp_path), META, 4)
    with pytest.raises(TTDError, match="another run"):
        TagWriter(paths(tmp_path), META, 4)
    writer.close()
    TagWriter(paths(tmp_path), META, 4).close()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"id": "a", "text": "b", "words": [{}]}', '{"id": "a", "te']
)
def test_a_damaged_line_is_named(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(line(0, "pixel") + text)
    with pytest.raises(TTDError, match="x.jsonl:2"):
        read_results(tmp_path / "x.jsonl")
    with pytest.raises(TTDError, match="no such file; make it with produce_tags"):
        read_results(tmp_path / "gone.jsonl")


@contextmanager
def files_up_to(size):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path):
    produce(tmp_path / "whole")
    largest = max(map(len, content(tmp_path / "whole").values()))
    for size in range(1, largest, 97):
        writer = TagWriter(paths(tmp_path / str(size)), META, 4)
        with files_up_to(size), pytest.raises(TTDError, match="make room"), closing(writer):
            for lines, skipped in batches():
                writer.write(lines, skipped)
        produce(tmp_path / str(size))
        assert content(tmp_path / str(size)) == content(tmp_path / "whole")


def test_a_meta_file_that_does_not_fit_leaves_nothing_behind(tmp_path):
    with files_up_to(5), pytest.raises(TTDError, match="make room"):
        write_json(tmp_path / "x.meta.json", {"a": "b" * 9})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [None, 0.5])
def test_a_finished_result_whose_lines_are_gone_is_made_again(tmp_path, left):
    produce(tmp_path)
    whole = content(tmp_path)
    path = paths(tmp_path)["pixel"]
    assert is_finished(path, IDENTITY)
    if left is None:
        path.lines.unlink()
    else:
        path.lines.write_bytes(whole[path.lines.name][: int(left * len(whole[path.lines.name]))])
    assert not is_finished(path, IDENTITY) and is_finished(paths(tmp_path)["image"], IDENTITY)
    produce(tmp_path)
    assert content(tmp_path) == whole and is_finished(path, IDENTITY)


def test_a_meta_file_that_is_no_object_counts_as_damaged(tmp_path):
    (tmp_path / "x.meta.json").write_text("[1]")
    assert read_json(tmp_path / "x.meta.json") is None
