"""The figures of the code, on sources whose counts can be seen."""

import ast
from pathlib import Path

import figures
import pytest

from core.errors import TTDError

CODE = '''"""A module."""

class Map:
    """A map [H, W]."""

    def size(self):
        """Its size."""
        return 1

    def area(self, values: Tensor) -> float:
        """Values [B, H, W] in [0, 1] to a number."""
        return values.sum() if values else 0

    def _hidden(self, values: Tensor):
        return values


class _Inner:
    def shown(self):
        return 1


def threshold(values: np.ndarray, cut=0.5):
    """Values in [0, 1], cut at `cut`, for list[str]."""

    def inner(value):
        return value

    return [[a for a in b] for b in values]


def pairs(a: dict[str, float]) -> list[Tensor]:
    return [(x, y) for x in a for y in a]
'''


def source(text, path="core/one.py"):
    return figures.Source(Path(path), text, ast.parse(text))


def code(*texts):
    return figures.Code([source(text) for text in texts])


def test_lines_and_long_lines_leave_blank_ones_out():
    found = code("x = 1\n\n   \n" + "y = '" + "a" * 95 + "'\n", "z = '" + "a" * 94 + "'\n")
    assert len(found.lines) == 3
    assert figures.long_lines(found) == "33.3 %"  # 101 columns; the other has 100


def test_columns_are_characters_not_bytes():
    assert figures.long_lines(code("x = '" + "ü" * 94 + "'\n")) == "0.0 %"


def test_conditionals_per_thousand_lines():
    text = "a = 1 if b else 2\n" + "\n".join(f"x{i} = {i}" for i in range(7))
    assert figures.conditionals(code(text)) == "125.0"
    assert figures.conditionals(code("if a:\n    b = 1\nelse:\n    b = 2\n")) == "0.0"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("[a for a in b]", 0),
        ("[a for a in b if a]", 0),
        ("[a for a in b for b in c]", 1),
        ("[[a for a in b] for b in c]", 1),
        ("{k: sum(v for v in w) for k, w in c}", 1),
        ("sum(f(a) for a in [b for b in c])", 1),
        ("[a for a in b] + [a for a in b]", 0),
    ],
)
def test_nested_comprehensions(text, count):
    assert sum(map(figures.is_nested, ast.walk(ast.parse(text)))) == count


def test_the_longest_file_and_the_widest_folder_are_named():
    found = [
        source("x = 1\n\n\n", "core/a/long.py"),
        source("x = 1\ny = 1\n", "core/b/one.py"),
        source("x = 1\n", "core/b/two.py"),
    ]
    assert figures.longest_file(figures.Code(found)) == "3 (core/a/long.py)"
    assert figures.widest_folder(figures.Code(found)) == "2 (core/b)"


def test_public_functions_methods_and_classes_count_as_documented():
    names = [one.name for one in figures.public(ast.parse(CODE))]
    assert names == ["Map", "size", "area", "threshold", "pairs"]  # not private, not inside one
    assert figures.documented(code(CODE)) == "80.0 %"


def test_shapes_are_asked_for_where_tensors_pass():
    # area has one; threshold names a range and a type but no shape; pairs has no docstring.
    assert figures.with_shapes(code(CODE)) == "33.3 %"
    assert figures.with_shapes(code("def f(x: int): pass")) == ""


@pytest.mark.parametrize(
    "text", ["maps [B, 3, H, W]", "[K]", "([..., 3])", "a scalar", "[1, h*w, C]"]
)
def test_what_is_a_shape(text):
    assert figures.SHAPE.search(text)


@pytest.mark.parametrize("text", ["in [0, 1]", "list[str]", "dict[str, Tensor]", "[-1, 1]", "x[i]"])
def test_what_is_not_a_shape(text):
    assert not figures.SHAPE.search(text)


def test_positional_arguments_of_calls():
    text = "f(1, 2, 3, 4, 5, 6, *a)\ng(1, 2, 3, 4, 5, 6, 7)\nh(*a, 1, k=2)\n"
    assert figures.most_positional(code(text)) == "7 (1 over 6)"
    assert figures.most_positional(code("x = 1")) == "0 (0 over 6)"


def test_lines_of_functions():
    text = "\n".join(f"def f{n}():\n" + "    x = 1\n" * n for n in range(1, 11))  # 2 to 11 lines
    assert figures.function_lines(code(text)) == "6.5 / 10"
    assert figures.function_lines(code("x = 1")) == ""
    decorated = "@wraps\nclass A:\n    async def f(self,\n          a):\n        return a\n"
    assert figures.function_lines(code(decorated)) == "3 / 3"


def repository(folder):
    files = {
        "core/__init__.py": "",
        "core/a.py": "from .b import y\nx = 1\n",
        "core/b.py": "def f():\n    from .a import x\n    return x\n",
        "run.py": "x = 1 if True else 2\n",
        "tools/t.py": "x = 1\n",
        "tests/test_a.py": "def test(): pass\n",
        ".venv/lib/other.py": "x = 1\n" * 50,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_table_of_a_repository(tmp_path, capsys):
    root, page = repository(tmp_path), tmp_path / "page.md"
    page.write_text(f"before\n{figures.MARKS[0]}\nstale\n{figures.MARKS[1]}\nafter\n")
    assert figures.main(["--root", str(root), "--update", str(page)]) == 0
    rows = {}
    for line in capsys.readouterr().out.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0]] = cells[1:]
    assert rows[""] == ["core", "scripts, tools", "benchmarks", "tests", "all", "goal"]
    assert rows["lines"] == ["5", "2", "", "1", "8", ""]
    assert rows["conditional expressions per 1,000"][:2] == ["0.0", "500.0"]
    assert rows["circles among imports"][0] == "2"  # a and b as rooms and as files
    text = page.read_text()
    assert text.startswith("before") and "| lines | 5 |" in text and "stale" not in text
    assert "`python tools/figures.py`, 2" in text and text.endswith("after\n")


def test_a_folder_without_code_is_an_error(tmp_path):
    with pytest.raises(TTDError, match="no Python files"):
        figures.main(["--root", str(tmp_path)])
