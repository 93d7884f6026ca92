"""How readable the code is, in figures: lines, functions, docstrings, circles.

    python tools/figures.py                             # print them
    python tools/figures.py --update CONTRIBUTING.md    # and write them into the page

Counted over the Python files of the repository, blank lines left out.
"""

from __future__ import annotations

import argparse
import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import chain
from pathlib import Path
from statistics import median

from architecture import circles
from cli import ROOT, run
from doc_table import update
from imports import parse, read_modules

from core.errors import TTDError

AREAS = {
    "core": ("core",),
    "scripts, tools": ("", "tools", ".ci"),  # "": the scripts at the top
    "benchmarks": ("benchmarks",),
    "tests": ("tests",),
}
COLUMNS = 100
POSITIONAL = 6
MARKS = ("<!-- figures: tools/figures.py -->", "<!-- end of figures -->")

Function = ast.FunctionDef | ast.AsyncFunctionDef
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# A bracket that names dimensions: [B, 3, H, W], [K], [...]; not [0, 1], not the one of list[str].
SHAPE = re.compile(r"(?<![\w\]])\[(?=[^\]]*(?:[A-Za-z]|\.\.\.))[^\[\]]+\]|\bscalar\b")


@dataclass(frozen=True)
class Source:
    """One file: its path, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module


@dataclass(frozen=True)
class Code:
    """Some files, and what they hold together."""

    sources: Sequence[Source]

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        every = chain.from_iterable(source.text.splitlines() for source in self.sources)
        return [line for line in every if line.strip()]

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of every syntax tree."""
        return list(chain.from_iterable(ast.walk(source.tree) for source in self.sources))

    @cached_property
    def public(self) -> list[Function | ast.ClassDef]:
        """Public functions, classes, and their public methods."""
        return list(chain.from_iterable(public(source.tree) for source in self.sources))


@dataclass(frozen=True)
class Figure:
    """A row of the table: its name, how it is counted over some files, its goal in words."""

    name: str
    count: Callable[[Code], str]
    goal: str


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, metavar="FOLDER", help="the repository (default: this)"
    )
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="write the table into this page"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    args = get_args_parser().parse_args(argv)
    text = table(read_areas(args.root), circle_count(args.root))
    print(text)
    if args.update:
        day = date.today().isoformat()
        update(args.update, MARKS, f"`python tools/figures.py`, {day}\n\n{text}\n")
    return 0


def read_areas(root: Path) -> dict[str, Code]:
    """The code of every area of a repository. TTDError: no Python file at all."""
    found = {}
    for name, folders in AREAS.items():
        paths = list(chain.from_iterable(files_of(root, folder) for folder in folders))
        found[name] = Code([read_source(path, root) for path in paths])
    if not any(code.sources for code in found.values()):
        raise TTDError(f"{root}: no Python files here; is this the repository's root?")
    return found


def files_of(root: Path, folder: str) -> list[Path]:
    """Python files below a folder; of the root itself only those right in it."""
    found = (root / folder).rglob("*.py") if folder else root.glob("*.py")
    return sorted(found)


def read_source(path: Path, root: Path) -> Source:
    """One file. TTDError: not Python."""
    return Source(path.relative_to(root), path.read_text(encoding="utf-8"), parse(path))


def circle_count(root: Path) -> int:
    """Kinds of circles (among rooms, among modules) that the imports of `core` have."""
    return len(circles(read_modules(root)))


def table(areas: dict[str, Code], circles_found: int) -> str:
    """All figures of all areas and of the whole, as Markdown."""
    whole = Code(list(chain.from_iterable(code.sources for code in areas.values())))
    columns = {**areas, "all": whole}
    lines = [row("", *columns, "goal"), row(*["---"] * (len(columns) + 2))]
    for figure in FIGURES:
        cells = [cell(figure, code) for code in columns.values()]
        lines.append(row(figure.name, *cells, figure.goal))
    empty = [""] * (len(columns) - 1)
    lines.append(row("circles among imports", str(circles_found), *empty, "0"))
    return "\n".join(lines)


def cell(figure: Figure, code: Code) -> str:
    """A figure of some code; empty where there is none."""
    return figure.count(code) if code.sources else ""


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


# --- what is counted ---


def long_lines(code: Code) -> str:
    """Share of lines with more than 100 characters."""
    return percent(sum(len(line) > COLUMNS for line in code.lines), len(code.lines))


def conditionals(code: Code) -> str:
    """`a if b else c` per 1,000 lines."""
    return per_thousand(code, lambda node: isinstance(node, ast.IfExp))


def nested_comprehensions(code: Code) -> str:
    """Comprehensions with two `for`, or with another comprehension inside, per 1,000 lines."""
    return per_thousand(code, is_nested)


def is_nested(node: ast.AST) -> bool:
    """Whether a node is a comprehension that holds more than one loop."""
    if not isinstance(node, COMPREHENSIONS):
        return False
    inner = [one for one in ast.walk(node) if one is not node]
    return len(node.generators) > 1 or any(isinstance(one, COMPREHENSIONS) for one in inner)


def per_thousand(code: Code, counts: Callable[[ast.AST], bool]) -> str:
    """How many nodes count, per 1,000 lines."""
    return f"{1000 * sum(map(counts, code.nodes)) / max(1, len(code.lines)):.1f}"


def longest_file(code: Code) -> str:
    """Lines of the longest file, blank ones counted, and its name."""
    sizes = [(len(one.text.splitlines()), one.path.as_posix()) for one in code.sources]
    length, path = max(sizes)
    return f"{length} ({path})"


def widest_folder(code: Code) -> str:
    """Python files of the folder that has most of them, and its name."""
    folders = Counter(source.path.parent.as_posix() for source in code.sources)
    name, count = max(sorted(folders.items()), key=lambda item: item[1])
    return f"{count} ({name})"


def documented(code: Code) -> str:
    """Share of public functions, methods and classes that have a docstring."""
    found = [bool(ast.get_docstring(one)) for one in code.public]
    return percent(sum(found), len(found))


def with_shapes(code: Code) -> str:
    """Share of public functions with tensors in their signature whose docstring names a shape."""
    texts = [ast.get_docstring(one) or "" for one in code.public if passes_tensors(one)]
    return percent(sum(bool(SHAPE.search(text)) for text in texts), len(texts))


def public(node: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """Public functions and classes of a module, and public methods of those classes."""
    for one in node.body:
        if isinstance(one, Function | ast.ClassDef) and not one.name.startswith("_"):
            yield one
            if isinstance(one, ast.ClassDef):
                yield from public(one)


def passes_tensors(node: Function | ast.ClassDef) -> bool:
    """Whether a function's annotations name a tensor or an array."""
    if isinstance(node, ast.ClassDef):
        return False
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    notes = [node.returns, *(one.annotation for one in given)]
    texts = [ast.unparse(note) for note in notes if note is not None]
    return any(re.search(r"\b(Tensor|ndarray|NDArray)\b", text) for text in texts)


def most_positional(code: Code) -> str:
    """Positional arguments of the call that has most, and how many calls have more than 6."""
    counts = [positional(node) for node in code.nodes if isinstance(node, ast.Call)]
    many = sum(count > POSITIONAL for count in counts)
    return f"{max(counts, default=0)} ({many} over {POSITIONAL})"


def positional(call: ast.Call) -> int:
    """Positional arguments of a call; one with a star counts as none."""
    return sum(not isinstance(argument, ast.Starred) for argument in call.args)


def function_lines(code: Code) -> str:
    """Median and 90th percentile of the lines of a function, signature and docstring counted."""
    functions = [node for node in code.nodes if isinstance(node, Function)]
    sizes = sorted((one.end_lineno or one.lineno) - one.lineno + 1 for one in functions)
    if not sizes:
        return ""
    return f"{median(sizes):g} / {sizes[math.ceil(0.9 * len(sizes)) - 1]}"


def percent(count: int, total: int) -> str:
    """A share; empty where there is nothing to count."""
    return f"{100 * count / total:.1f} %" if total else ""


FIGURES = (
    Figure("lines", lambda code: f"{len(code.lines):,}", ""),
    Figure(f"over {COLUMNS} columns", long_lines, "<= 2 %"),
    Figure("conditional expressions per 1,000", conditionals, "<= 12"),
    Figure("nested comprehensions per 1,000", nested_comprehensions, "<= 1"),
    Figure("longest file", longest_file, "<= 350"),
    Figure("widest folder, files", widest_folder, "<= 14 in core"),
    Figure("public functions documented", documented, "100 % but for tests"),
    Figure("with shapes where tensors pass", with_shapes, "100 % in core"),
    Figure("most positional arguments", most_positional, "<= 6"),
    Figure("function lines, median / p90", function_lines, "7-20"),
)


if __name__ == "__main__":
    run(main)
