"""YAML of strangers: plain values as written, one line for bombs, code, depth and repeated keys."""

import datetime
import time

import pytest

from core.errors import TTDError
from core.utils.yaml_files import DEEPEST, load_yaml


def load(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_yaml(path)


def refused(tmp_path, text, reason):
    with pytest.raises(TTDError, match=reason) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/x.yaml: ") and "\n" not in str(error.value)


def bomb(width, depth):
    """`depth` lists of `width` aliases of the one before: width ** depth values."""
    lines = ["a0: &a0 [x]"]
    for level in range(1, depth + 1):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines) + "\n"


def test_plain_values_are_as_written(tmp_path):
    text = "a: 1\nb: [x, 'on', 1.5, true, null]\nc: &c {d: 2}\ne: *c\n"
    wanted = {"a": 1, "b": ["x", "on", 1.5, True, None], "c": {"d": 2}, "e": {"d": 2}}
    assert load(tmp_path, text) == wanted
    assert load(tmp_path, "") is None and load(tmp_path, "# nothing\n") is None
    assert load(tmp_path, b"\xef\xbb\xbfa: 1\n") == {"a": 1}
    assert load(tmp_path, "a: 2001-01-02\n") == {"a": datetime.date(2001, 1, 2)}


@pytest.mark.parametrize("width, depth", [(9, 9), (2, 60), (100, 20), (1000, 3)])
def test_bombs_of_aliases_are_refused_at_once(tmp_path, width, depth):
    began = time.perf_counter()
    refused(tmp_path, bomb(width, depth), "aliases stand for more than")
    assert time.perf_counter() - began < 10


def test_aliases_below_the_limit_are_read(tmp_path):
    assert len(load(tmp_path, bomb(9, 4))["a4"]) == 9
    merged = "base: &base {x: 1, y: 2}\nown: {<<: *base, y: 3}\n"
    assert load(tmp_path, merged)["own"] == {"x": 1, "y": 3}


def test_merge_keys_count_as_aliases(tmp_path):
    lines = ["m0: &m0 {" + ", ".join(f"k{i}: 1" for i in range(500)) + "}"]
    for level in range(1, 8):
        merged = ", ".join([f"*m{level - 1}"] * 20)
        lines.append(f"m{level}: &m{level} {{<<: [{merged}]}}")
    refused(tmp_path, "\n".join(lines), "aliases stand for more than")


@pytest.mark.parametrize(
    "text, reason",
    [
        ("&a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested more than"),
        ("[" * 100_000, "nested more than|not YAML"),
        ("? " * 5000, "nested more than|not YAML"),
        ("- " * 5000, "nested more than"),
        ("a: 1\nb: 2\na: 3\n", "'a' occurs twice"),
        ("x: {y: 1, 'y': 2}\n", "'y' occurs twice"),
        ("a: " + "9" * 5000 + "\n", "not YAML"),
        ("a: 2001-99-99\n", "not YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "not YAML"),
        ("a: !!python/name:os.system\n", "not YAML"),
        ("? [a, b]\n: c\n", "not YAML"),
        ("? {a: b}\n: c\n", "not YAML"),
        ("a: *nothing\n", "not YAML"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("a: \0\n", "not YAML"),
        ("a: !!timestamp x\n", "not YAML"),
        ("a: !!int x\n", "not YAML"),
        ("a: !!float x\n", "not YAML"),
        ("<<: 5\n", "not YAML"),
        (b"a: \xff\n", "not UTF-8"),
    ],
)
def test_one_line_for_what_is_wrong(tmp_path, text, reason):
    refused(tmp_path, text, reason)


def test_nothing_is_executed(tmp_path):
    touched = tmp_path / "touched"
    for tag in ("object/apply:os.system", "object/new:os.system", "object:os.system"):
        with pytest.raises(TTDError):
            load(tmp_path, f"a: !!python/{tag} ['touch {touched}']\n")
    assert not touched.exists()
