"""Every reader on changed files: a value or a TTDError of one line; no other error, no hang."""

import json
from functools import cache

import open_clip  # noqa: F401  # here: its import takes longer than a reader may
import pytest
from fuzzed_readers import READERS
from hypothesis import given
from mutations import (
    altered,
    byte_changes,
    changed,
    examples,
    field_changes,
    json_bytes,
    outcome,
    scaled,
)

FAST, MANY = 2, scaled(150)
WITH_CONTENT = [name for name, reader in READERS.items() if reader.content is not None]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """name -> (the file that is changed, its valid bytes)."""

    @cache
    def of(name):
        path = READERS[name].make(tmp_path_factory.mktemp("fuzz"))
        return path, path.read_bytes()

    return of


def check(files, name, data):
    path, _ = files(name)
    path.write_bytes(data)
    return outcome(READERS[name].read, path)


def as_bytes(name, content):
    """JSON, or a line of it for every row."""
    if READERS[name].lines and isinstance(content, list):
        return b"".join(json_bytes(row) + b"\n" for row in content)
    return json_bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_the_valid_file_is_read(files, name):
    path, data = files(name)
    path.write_bytes(data)
    READERS[name].read(path)


def fuzz_bytes(files, name, fast, slow):
    @examples(fast, slow)
    @given(byte_changes)
    def run(changes):
        check(files, name, changed(files(name)[1], changes))

    run()


def fuzz_fields(files, name, fast, slow):
    content = READERS[name].content
    assert json.loads(json.dumps(content)) == content

    @examples(fast, slow)
    @given(field_changes)
    def run(changes):
        check(files, name, as_bytes(name, altered(content, changes)))

    run()


@pytest.mark.parametrize("name", READERS)
def test_changed_bytes(files, name):
    fuzz_bytes(files, name, FAST, slow=False)


@pytest.mark.parametrize("name", WITH_CONTENT)
def test_changed_values(files, name):
    fuzz_fields(files, name, FAST, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_changed_bytes(files, name):
    fuzz_bytes(files, name, MANY, slow=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_CONTENT)
def test_many_changed_values(files, name):
    fuzz_fields(files, name, MANY, slow=True)
