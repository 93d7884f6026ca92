"""The rooms of `core/` keep their order, and the tool that says so notices every kind of breach."""

from itertools import chain

import architecture
import pytest
from architecture_picture import PLACES, check_places, clause, stored_facts
from canvas import Canvas
from imports import between_rooms, read_modules
from paths import ROOT

from core.errors import TTDError

# A repository of two rooms, `maps` above `data`, in which no rule is broken.
SOUND = {
    "core/__init__.py": "from .errors import TTDError",
    "core/errors.py": '"""Errors."""\nclass TTDError(Exception): pass',
    "core/data/__init__.py": '"""What comes from disk: images."""',
    "core/data/images.py": "from ..errors import TTDError\ndef read(): pass\ndef _open(): pass",
    "core/data/pairs.py": "from .images import _open\nfrom . import images\nimages._open()",
    "core/maps/__init__.py": '"""Similarity maps."""',
    "core/maps/grid.py": "def size():\n    from ..data.images import read\n    return read",
    "demo.py": "from core.maps.grid import size\nprint(size)",
    "tools/cli.py": "import argparse",
}


@pytest.fixture(scope="module")
def modules():
    return read_modules(ROOT)


def repository(folder, **changed):
    """`SOUND` with some files replaced, `core__maps__grid` for core/maps/grid.py."""
    files = {**SOUND, **{f"{name.replace('__', '/')}.py": text for name, text in changed.items()}}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return folder


def found(folder, **changed):
    root = repository(folder, **changed)
    return architecture.violations(read_modules(root), root)


# --- this repository ---
@pytest.mark.parametrize(
    "rule", ["homeless", "upward", "circles", "private_names", "absolute", "terminal"]
)
def test_core_keeps_the_rule(modules, rule):
    assert getattr(architecture, rule)(modules) == []


def test_core_imports_no_script_and_no_tool(modules):
    assert architecture.foreign(modules, ROOT) == []


def test_every_room_says_in_a_line_what_it_is(modules):
    words = architecture.summaries(modules)
    assert set(words) == {module.room for module in modules.values()} - {"core"}
    assert all(len(text) > 12 and text.endswith(".") for text in words.values())


def test_page_and_picture_show_the_rooms_as_they_are(modules):
    assert architecture.outdated(modules, ROOT) == []


# --- what a breach looks like ---
def test_a_sound_repository_has_no_violation(tmp_path):
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"core__attic__old": "x = 1"}, "core/attic: on no floor"),
        (
            {"core__data__images": "def f():\n    from ..maps.grid import size\n    return size"},
            "upward import in core.data.images, line 2: core.maps.grid.size",
        ),
        (
            {"core__maps__grid": "from ..text import words", "core__text__words": ""},
            "upward import",
        ),
        ({"core__data__images": "from ..maps.grid import size"}, "circle among rooms: "),
        (
            {"core__maps__grid": "from . import one", "core__maps__one": "from .grid import size"},
            "circle among modules: ",
        ),
        ({"core__maps__grid": "from ..data.images import _open"}, "private name of another room"),
        (
            {"core__maps__grid": "from ..data import images\nimages._open()"},
            "core.maps.grid, line 2: images._open",
        ),
        (
            {
                "core__maps__grid": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
                "    from ..data.images import _open"
            },
            "private name of another room in core.maps.grid, line 3",
        ),
        ({"core__maps__grid": "import core.errors"}, "import that is not relative"),
        ({"core__maps__grid": "from core.errors import TTDError"}, "import that is not relative"),
        ({"core__maps__grid": "import demo"}, "core imports what is outside of it"),
        ({"core__maps__grid": "from tools.cli import run"}, "core imports what is outside of it"),
        ({"core__maps__grid": "def f():\n    import cli"}, "core imports what is outside of it"),
        ({"core__maps__grid": "def f():\n    print(1)"}, "print() in core, core.maps.grid, line 2"),
        ({"core__maps__grid": "import sys\nsys.exit(2)"}, "sys.exit() in core"),
        ({"core__maps__grid": "raise SystemExit(1)"}, "SystemExit() in core"),
        ({"core__maps__grid": "from argparse import ArgumentParser"}, "command line in core"),
    ],
)
def test_a_breach_is_found_and_named(tmp_path, changed, message):
    lines = found(tmp_path, **changed)
    assert any(message in line for line in lines), lines


def test_what_only_the_type_checker_imports_may_come_from_above(tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..maps.grid import size"
    assert found(tmp_path, core__data__images=text) == []


def test_what_is_imported_where_the_type_checker_does_not_look_counts(tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    x = 1\nelse:\n    "
    lines = found(tmp_path, core__data__images=text + "from ..maps.grid import size")
    assert any("upward import in core.data.images, line 5" in line for line in lines)


def test_the_chain_of_a_circle_follows_the_imports():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    chain = architecture.first_circle(graph)
    assert chain[0] == chain[-1] and set(chain) == {"a", "b", "c"}
    steps = list(zip(chain, chain[1:], strict=False))
    assert all(following in graph[node] for node, following in steps)
    assert architecture.first_circle({"a": {"b"}, "b": set(), "c": {"a", "b"}}) == []


def test_rooms_and_their_imports_are_counted_once(tmp_path):
    rooms = between_rooms(read_modules(repository(tmp_path)))
    assert rooms == {"core": {"errors"}, "errors": set(), "data": {"errors"}, "maps": {"data"}}


def test_the_table_is_the_same_in_every_process(modules):
    row = next(line for line in architecture.table(modules).splitlines() if "`evaluation/`" in line)
    names = row.rsplit("|", 2)[1].strip().split(", ")
    floors = [architecture.floor_of(name) for name in names]
    assert len(names) > 4 and floors == sorted(floors, reverse=True)
    assert names.index("text") < names.index("maps")  # one floor: as FLOORS has them


def test_what_is_reached_through_another_room_is_not_drawn(tmp_path):
    grid = (
        "from ..data.images import read\nfrom ..metrics import iou\nfrom ..errors import TTDError"
    )
    root = repository(tmp_path, core__metrics="def iou(): pass", core__maps__grid=grid)
    modules = read_modules(root)
    assert architecture.reduced(modules) == {"data": [], "maps": ["data", "metrics"], "metrics": []}
    images = "from ..metrics import iou"
    modules = read_modules(repository(tmp_path, core__data__images=images, core__maps__grid=grid))
    assert architecture.reduced(modules)["maps"] == ["data"]


def test_no_python_files_is_an_error(tmp_path):
    with pytest.raises(TTDError, match="no Python files"):
        read_modules(tmp_path)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "broken.py").write_text("def f(:")
    with pytest.raises(TTDError, match=r"broken\.py: cannot be read as Python"):
        read_modules(tmp_path)


# --- the page and the picture ---
def page_of(folder):
    (folder / "docs").mkdir(exist_ok=True)
    page = folder / "docs" / "architecture.md"
    page.write_text(f"before\n{architecture.MARKS[0]}\n{architecture.MARKS[1]}\nafter\n")
    return page


@pytest.fixture
def small(tmp_path):
    """A repository with every room that the arrows of the picture touch."""
    names = ("backbones", "text", "tags", "masks", "evaluation", "refine", "training", "ttd")
    rooms = {f"core__{name}": f'"""The room {name}, for the test."""' for name in names}
    return repository(tmp_path, **rooms)


def test_the_check_notices_what_changed_since_the_drawing(small, capsys):
    page = page_of(small)
    with pytest.raises(TTDError, match="2 rules of the architecture broken"):
        architecture.main(["--root", str(small), "--check"])
    assert architecture.main(["--root", str(small)]) == 0
    assert architecture.main(["--root", str(small), "--check"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| 4 | `maps/` | Similarity maps. | data |" in text and text.endswith("after\n")
    assert text.index("`ttd.py`") < text.index("`maps/`") < text.index("`errors.py`")
    repository(small, core__tags='"""Tags, now of another kind."""')
    capsys.readouterr()
    with pytest.raises(TTDError, match="2 rules"):
        architecture.main(["--root", str(small), "--check"])
    assert "does not show the rooms as they are" in capsys.readouterr().out


def test_the_picture_stores_what_it_shows(tmp_path):
    assert stored_facts(tmp_path / "missing.png") == ""
    (tmp_path / "text.png").write_text("no picture")
    assert stored_facts(tmp_path / "text.png") == ""


def test_every_floor_has_its_place_in_the_picture():
    check_places(architecture.FLOORS, dict.fromkeys(PLACES, ""))
    assert len(set(PLACES.values())) == len(PLACES)
    assert set(chain.from_iterable(architecture.FLOORS)) - {"core"} == set(PLACES)
    with pytest.raises(TTDError, match="attic: no place"):
        check_places(architecture.FLOORS, {"attic": ""})
    with pytest.raises(TTDError, match="a higher floor below"):
        check_places([("training",), ("errors",)], {})


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("What comes from disk: images, captions.", "What comes from disk"),
        ("Backbones: any CLIP-like model. More.", "Any CLIP-like model"),
        ("The exception that `core` raises; one line.", "The exception that core raises"),
        ("Short.", "Short."),
    ],
)
def test_the_first_clause_of_a_docstring(words, first):
    assert clause(words) == first


def test_an_arrow_ends_where_it_points_to():
    canvas = Canvas(60, 40)
    canvas.arrow(((10, 20), (50, 20)), (200, 0, 0))
    pixels = canvas.finished().convert("RGB")
    line = [x for x in range(60) if pixels.getpixel((x, 20))[2] < 128]
    assert abs(min(line) - 10) <= 1 and abs(max(line) - 49) <= 1
    head = [x for x in range(60) if pixels.getpixel((x, 15))[2] < 200]  # above the line
    assert head and min(head) >= 34 and max(head) <= 43
