"""Which images a user means: files, folders, patterns and JSONL lists."""

import json

import pytest

from core.data.image_lists import Listed, list_images
from core.errors import TTDError


@pytest.fixture
def tree(tmp_path):
    """Folder with b.png, A.jpg, notes.txt, .hidden.png, sub/c.png and images/d.png."""
    for name in ("b.png", "A.jpg", ".hidden.png", "sub/c.png", "images/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def names(listed, root):
    return [str(item.path.relative_to(root)) for item in listed]


def test_files_folders_and_patterns(tree):
    assert names(list_images([tree]), tree) == ["A.jpg", "b.png"]
    assert names(list_images([tree / "b.png", str(tree / "sub")]), tree) == ["b.png", "sub/c.png"]
    assert names(list_images([f"{tree}/**/*"]), tree) == [
        "A.jpg",
        "b.png",
        "images/d.png",
        "sub/c.png",
    ]
    assert list_images([tree / "b.png"]) == [Listed(tree / "b.png", ())]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    path = tmp_path / "a[1]*.png"
    path.touch()
    assert list_images([path]) == [Listed(path)]


def test_missing_inputs_are_all_named_in_one_line(tree):
    with pytest.raises(TTDError) as caught:
        list_images([tree / "b.png", "nowhere.png", tree / "*.xyz", ""])
    assert (
        "nowhere.png" in str(caught.value)
        and "*.xyz" in str(caught.value)
        and "\n" not in str(caught.value)
    )
    with pytest.raises(TTDError, match="and 3 more"):
        list_images([f"no{i}.png" for i in range(8)])


def test_a_folder_without_pictures_is_one_line(tmp_path):
    with pytest.raises(TTDError, match="no images"):
        list_images([tmp_path])


def write_jsonl(folder, *records):
    path = folder / "list.jsonl"
    path.write_text(
        "\n".join(r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records),
        encoding="utf-8",
    )
    return path


def test_jsonl_of_both_forms(tree):
    path = write_jsonl(
        tree,
        {"image": "b.png", "text": "line\u2028separator"},
        "",
        {"image": "d.png", "captions": ["one", " ", "two"]},
        {"image": str(tree / "sub" / "c.png")},
        {"image": "gone.png", "text": "x"},
    )
    assert list_images([path]) == [
        Listed(tree / "b.png", ("line\u2028separator",)),
        Listed(tree / "images" / "d.png", ("one", "two")),
        Listed(tree / "sub" / "c.png", ()),
        Listed(tree / "gone.png", ("x",)),
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"image": "b.png"',
        '["b.png"]',
        '{"text": "x"}',
        '{"image": 3}',
        '{"image": "b.png", "text": 3}',
        '{"image": "b.png", "captions": "x"}',
        "[" * 5000,
    ],
)
def test_a_bad_jsonl_line_is_named(tree, line):
    path = write_jsonl(tree, {"image": "b.png", "text": "ok"}, line)
    with pytest.raises(TTDError, match=r"list\.jsonl:2: ") as caught:
        list_images([path])
    assert "\n" not in str(caught.value)


def test_a_jsonl_of_nothing_or_of_missing_pictures_is_one_line(tree):
    with pytest.raises(TTDError, match="no lines"):
        list_images([write_jsonl(tree)])
    with pytest.raises(TTDError, match="none of its images"):
        list_images([write_jsonl(tree, {"image": "x.png"}, {"image": "y.png"})])
    (tree / "list.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TTDError, match="UTF-8"):
        list_images([tree / "list.jsonl"])
