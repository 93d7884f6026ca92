"""What the modules of `core/` import from one another, read from their source without running it.

Every import counts, also one inside a function. One under `if TYPE_CHECKING:` is kept apart: it is
for the type checker and makes no module depend on another at run time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cli import ROOT  # noqa: F401  (makes `core` importable; tools take ROOT from here)

from core.errors import TTDError

PACKAGE = "core"


@dataclass(frozen=True)
class Import:
    """`source` imports `target`, both dotted module names; `name`: what it takes ("" for all)."""

    source: str
    target: str
    name: str
    line: int
    for_types: bool
    relative: bool

    def __str__(self) -> str:
        """What a message says: where, and what is imported."""
        what = f"{self.target}.{self.name}" if self.name else self.target
        return f"{self.source}, line {self.line}: {what}"


@dataclass(frozen=True)
class Module:
    """A file: its dotted name, its path, its syntax tree, and what it imports from anywhere."""

    name: str
    path: Path
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        """The folder below the package, the file's own name right below it, `core` for itself."""
        return room_of(self.name)


def room_of(module: str) -> str:
    """`core.tags.scoring` -> `tags`; `core.errors` -> `errors`; `core` -> `core`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def read_modules(root: Path, package: str = PACKAGE) -> dict[str, Module]:
    """All modules of ROOT/package by dotted name, in order.

    TTDError: a folder without Python files, a file that is not Python.
    """
    paths = {_dotted(path, root): path for path in sorted((root / package).rglob("*.py"))}
    if not paths:
        raise TTDError(f"{root / package}: no Python files here; is this the repository's root?")
    return {name: _read_module(name, path, set(paths)) for name, path in paths.items()}


def inside(modules: dict[str, Module], for_types: bool = False) -> list[Import]:
    """Imports of one module of the package by another; with `for_types` those for types, too."""
    found = chain.from_iterable(module.imports for module in modules.values())
    inner = [one for one in found if one.target in modules and one.target != one.source]
    return [one for one in inner if for_types or not one.for_types]


def between_rooms(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Room -> the other rooms that it imports from at run time."""
    rooms: dict[str, set[str]] = {module.room: set() for module in modules.values()}
    for one in inside(modules):
        source, target = room_of(one.source), room_of(one.target)
        if source != target:
            rooms[source].add(target)
    return rooms


def parse(path: Path) -> ast.Module:
    """The syntax tree of a file. TTDError: unreadable, or not Python."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise TTDError(f"{path}: cannot be read as Python ({error})") from None


def _dotted(path: Path, root: Path) -> str:
    """core/tags/scoring.py -> core.tags.scoring; core/tags/__init__.py -> core.tags."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read_module(name: str, path: Path, known: set[str]) -> Module:
    """Parse one file; `known`: the package's modules, to tell a module from a name in one."""
    tree = parse(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    types_only = _nodes_for_types(tree)
    found: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for_types, relative = node in types_only, _is_relative(node)
            for target, taken in _targets(node, package, known):
                found.append(Import(name, target, taken, node.lineno, for_types, relative))
    return Module(name, path, tree, tuple(found))


def _nodes_for_types(tree: ast.Module) -> set[ast.AST]:
    """Every node below `if TYPE_CHECKING:` (its `else` does not count)."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                found.update(ast.walk(statement))
    return found


def _targets(
    node: ast.Import | ast.ImportFrom, package: str, known: set[str]
) -> Iterator[tuple[str, str]]:
    """(module, name taken from it) for each thing that one statement imports.

    In core.tags, `from . import scoring` takes the module core.tags.scoring, not a name.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, ""
        return
    base = _base(node, package)
    for alias in node.names:
        full = f"{base}.{alias.name}" if base else alias.name
        if full in known:
            yield full, ""
        else:
            yield base, alias.name


def _is_relative(node: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(node, ast.ImportFrom) and node.level > 0


def _base(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from ... import` names, dots resolved from the importing package."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, node.module] if node.module else parts)
