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
from pathlib import Path
from statistics import median

from architecture import circles
from cli import ROOT, run
from doc_table import update
from imports import PACKAGE, parse, read_modules

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

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Figure:
    """A row of the table: its name, how it is counted over some files, its goal in words."""

    name: str
    count: Callable[[Sequence[Source]], str]
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


def read_areas(root: Path) -> dict[str, list[Source]]:
    """The files of every area of a repository. TTDError: no Python file at all."""
    found = {}
    for name, folders in AREAS.items():
        paths = [path for folder in folders for path in files_of(root, folder)]
        found[name] = [
            Source(path.relative_to(root), path.read_text(encoding="utf-8"), parse(path))
            for path in paths
        ]
    if not any(found.values()):
        raise TTDError(f"{root}: no Python files here; is this the repository's root?")
    return found


def files_of(root: Path, folder: str) -> list[Path]:
    """Python files below a folder; of the root itself only those right in it."""
    return sorted((root / folder).rglob("*.py") if folder else root.glob("*.py"))


def circle_count(root: Path) -> int:
    """Kinds of circles (among rooms, among modules) that the imports of `core` have."""
    return len(circles(read_modules(root))) if (root / PACKAGE).is_dir() else 0


def table(areas: dict[str, list[Source]], circles_found: int) -> str:
    """All figures of all areas and of the whole, as Markdown."""
    whole = [source for sources in areas.values() for source in sources]
    columns = {**areas, "all": whole}
    lines = [row("", *columns, "goal"), row(*["---"] * (len(columns) + 2))]
    for figure in FIGURES:
        cells = [figure.count(sources) if sources else "" for sources in columns.values()]
        lines.append(row(figure.name, *cells, figure.goal))
    empty = [""] * (len(columns) - 1)
    lines.append(row("circles among imports", str(circles_found), *empty, "0"))
    return "\n".join(lines)


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


# --- what is counted ---


def line_count(sources: Sequence[Source]) -> int:
    """Lines that are not blank."""
    return sum(len(source.lines) for source in sources)


def long_lines(sources: Sequence[Source]) -> str:
    """Share of lines with more than 100 characters."""
    long = sum(len(line) > COLUMNS for source in sources for line in source.lines)
    return percent(long, line_count(sources))


def conditionals(sources: Sequence[Source]) -> str:
    """`a if b else c` per 1,000 lines."""
    return per_thousand(sources, lambda node: isinstance(node, ast.IfExp))


def nested_comprehensions(sources: Sequence[Source]) -> str:
    """Comprehensions with two `for`, or with another comprehension inside, per 1,000 lines."""
    return per_thousand(sources, is_nested)


def is_nested(node: ast.AST) -> bool:
    """Whether a node is a comprehension that holds more than one loop."""
    if not isinstance(node, COMPREHENSIONS):
        return False
    inner = [one for one in ast.walk(node) if one is not node]
    return len(node.generators) > 1 or any(isinstance(one, COMPREHENSIONS) for one in inner)


def per_thousand(sources: Sequence[Source], counts: Callable[[ast.AST], bool]) -> str:
    """How many nodes count, per 1,000 lines."""
    found = sum(map(counts, (node for source in sources for node in source.nodes)))
    return f"{1000 * found / max(1, line_count(sources)):.1f}"


def longest_file(sources: Sequence[Source]) -> str:
    """Lines of the longest file, blank ones counted, and its name."""
    length, path = max((len(one.text.splitlines()), one.path.as_posix()) for one in sources)
    return f"{length} ({path})"


def widest_folder(sources: Sequence[Source]) -> str:
    """Python files of the folder that has most of them, and its name."""
    folders = Counter(source.path.parent.as_posix() for source in sources)
    name, count = max(sorted(folders.items()), key=lambda item: item[1])
    return f"{count} ({name})"


def documented(sources: Sequence[Source]) -> str:
    """Share of public functions, methods and classes that have a docstring."""
    found = [bool(ast.get_docstring(one)) for source in sources for one in public(source.tree)]
    return percent(sum(found), len(found))


def with_shapes(sources: Sequence[Source]) -> str:
    """Share of public functions with tensors in their signature whose docstring names a shape."""
    found = [
        bool(SHAPE.search(ast.get_docstring(one) or ""))
        for source in sources
        for one in public(source.tree)
        if passes_tensors(one)
    ]
    return percent(sum(found), len(found))


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
    notes = [one.annotation for one in given if one.annotation] + [node.returns or ast.Pass()]
    return any(re.search(r"\b(Tensor|ndarray|NDArray)\b", ast.unparse(note)) for note in notes)


def most_positional(sources: Sequence[Source]) -> str:
    """Positional arguments of the call that has most, and how many calls have more than 6."""
    calls = [one for source in sources for one in source.nodes if isinstance(one, ast.Call)]
    counts = [sum(not isinstance(arg, ast.Starred) for arg in call.args) for call in calls]
    many = sum(count > POSITIONAL for count in counts)
    return f"{max(counts, default=0)} ({many} over {POSITIONAL})"


def function_lines(sources: Sequence[Source]) -> str:
    """Median and 90th percentile of the lines of a function, signature and docstring counted."""
    sizes = sorted(
        (one.end_lineno or one.lineno) - one.lineno + 1
        for source in sources
        for one in source.nodes
        if isinstance(one, Function)
    )
    if not sizes:
        return ""
    return f"{median(sizes):g} / {sizes[math.ceil(0.9 * len(sizes)) - 1]}"


def percent(count: int, total: int) -> str:
    """A share; empty where there is nothing to count."""
    return f"{100 * count / total:.1f} %" if total else ""


FIGURES = (
    Figure("lines", lambda sources: f"{line_count(sources):,}", ""),
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
