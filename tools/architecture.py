"""The rooms of `core/`: which may import which, whether they do, and a picture of it.

    python tools/architecture.py              # draw docs/architecture.png, write the page's table
    python tools/architecture.py --check      # say what breaks a rule; exit code 2 if anything does

`FLOORS` is the only place that states the order of the rooms; docs/architecture.md, the picture and
the test follow it. A new room gets its name there and one line in its `__init__.py`.
"""

from __future__ import annotations

import argparse
import ast
import graphlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from cli import ROOT, run
from doc_table import update
from imports import PACKAGE, Module, between_rooms, inside, read_modules, room_of

from core.errors import TTDError

# From the ground up. A room imports from lower floors only, never from its own or a higher one.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("utils", "metrics"),
    ("data", "refine", "plots"),
    ("backbones", "world"),
    ("text", "maps"),
    ("tags",),
    ("masks",),
    ("evaluation", "predictor"),
    ("training", "export", "report"),
    ("ttd", "tcl", "grounding", "tiny_clip"),
    ("labelling", "app"),
    (PACKAGE,),  # core/__init__.py, which exports the way in
)
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "architecture.png"
MARKS = ("<!-- rooms: tools/architecture.py -->", "<!-- end of rooms -->")
OUTSIDE = ("tools", "benchmarks", "tests")  # besides the scripts at the top
ENDS = ("sys.exit", "os._exit", "exit", "quit", "SystemExit")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; check every rule")
    parser.add_argument(
        "--root", type=Path, default=ROOT, metavar="FOLDER", help="the repository (default: this)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check, or check and draw."""
    args = get_args_parser().parse_args(argv)
    modules = read_modules(args.root)
    found = violations(modules, args.root)
    if args.check:
        found += outdated(modules, args.root)
    else:
        draw_and_describe(modules, args.root)
    for line in found:
        print(line)
    if found:
        raise TTDError(f"{len(found)} rule{'s' * (len(found) > 1)} of the architecture broken")
    print(f"{len(modules)} modules in {len(between_rooms(modules))} rooms, every rule holds")
    return 0


# --- the rules ---


def violations(modules: dict[str, Module], root: Path) -> list[str]:
    """A line for everything that breaks a rule, in words that say where and what to do."""
    return [
        *homeless(modules),
        *upward(modules),
        *circles(modules),
        *private_names(modules),
        *absolute(modules),
        *foreign(modules, root),
        *terminal(modules),
    ]


def floor_of(room: str) -> int:
    """The number of a room's floor, 0 the ground; -1 for a room that `FLOORS` does not name."""
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    return -1


def homeless(modules: dict[str, Module]) -> list[str]:
    """Rooms that have no floor."""
    rooms = dict.fromkeys(module.room for module in modules.values())
    return [
        f"core/{room}: on no floor; name it in FLOORS of tools/architecture.py"
        for room in rooms
        if floor_of(room) < 0
    ]


def upward(modules: dict[str, Module]) -> list[str]:
    """Imports from a neighbour room or from a higher floor."""
    found = []
    for one in inside(modules):
        source, target = room_of(one.source), room_of(one.target)
        if source != target and 0 <= floor_of(source) <= floor_of(target):
            found.append(f"upward import in {one} ({source} is not above {target})")
    return found


def circles(modules: dict[str, Module]) -> list[str]:
    """A circle among rooms and one among modules, if there are any, as a chain of names."""
    files: dict[str, set[str]] = {name: set() for name in modules}
    for one in inside(modules):
        files[one.source].add(one.target)
    found = []
    for kind, graph in (("rooms", between_rooms(modules)), ("modules", files)):
        chain = first_circle(graph)
        if chain:
            found.append(f"circle among {kind}: {' -> '.join(chain)}")
    return found


def first_circle(graph: dict[str, set[str]]) -> list[str]:
    """A chain of nodes, each importing the next, that ends where it began; [] if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


def private_names(modules: dict[str, Module]) -> list[str]:
    """Names or modules with a leading underscore that another room imports or reaches into."""
    found = []
    for one in inside(modules, for_types=True):
        parts = [*one.target.split("."), one.name]
        if room_of(one.source) != room_of(one.target) and any(map(is_private, parts)):
            found.append(f"private name of another room in {one}")
    for module in modules.values():
        found += _reached_into(module, modules)
    return found


def is_private(name: str) -> bool:
    """`_name`, but not `__name__`."""
    return name.startswith("_") and not name.endswith("__")


def _reached_into(module: Module, modules: dict[str, Module]) -> list[str]:
    """`other._name` where `other` is an imported module of another room."""
    names = set()
    for one in module.imports:
        if one.target in modules and not one.name and room_of(one.target) != module.room:
            names.add(one.target.rpartition(".")[2])
    return [
        f"private name of another room in {module.name}, line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr)
        if isinstance(node.value, ast.Name) and node.value.id in names
    ]


def absolute(modules: dict[str, Module]) -> list[str]:
    """Imports that name `core`: the package may be installed under another name."""
    found = []
    for module in modules.values():
        for one in module.imports:
            if not one.relative and one.target.split(".")[0] == PACKAGE:
                found.append(f"import that is not relative in {one}")
    return found


def foreign(modules: dict[str, Module], root: Path) -> list[str]:
    """Imports of a script, a tool, a benchmark or a test."""
    names = set(OUTSIDE)
    for folder in (root, *(root / name for name in OUTSIDE[:2])):
        names |= {path.stem for path in folder.glob("*.py")}
    found = []
    for module in modules.values():
        outside = [one for one in module.imports if one.target.split(".")[0] in names]
        found += [f"core imports what is outside of it in {one}" for one in outside]
    return found


def terminal(modules: dict[str, Module]) -> list[str]:
    """Calls of print, exits, and command lines: those are a script's."""
    found = []
    for module in modules.values():
        for one in module.imports:
            if one.target == "argparse":
                found.append(f"command line in core, {one}")
        calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
        for call in calls:
            name = ast.unparse(call.func)
            if name == "print" or name in ENDS:
                found.append(f"{name}() in core, {module.name}, line {call.lineno}")
    return found


# --- the page and the picture ---


def outdated(modules: dict[str, Module], root: Path) -> list[str]:
    """The page or the picture where they no longer show what the code is."""
    from architecture_picture import stored_facts

    page, picture = (root / path.relative_to(ROOT) for path in (PAGE, PICTURE))
    again = "run python tools/architecture.py"
    found = []
    if not page.is_file() or table(modules) not in page.read_text(encoding="utf-8"):
        found.append(f"docs/{page.name} does not list the rooms as they are: {again}")
    if stored_facts(picture) != facts(modules):
        found.append(f"docs/{picture.name} does not show the rooms as they are: {again}")
    return found


def draw_and_describe(modules: dict[str, Module], root: Path) -> None:
    """Write docs/architecture.png and the table of docs/architecture.md."""
    from architecture_picture import draw

    page, picture = (root / path.relative_to(ROOT) for path in (PAGE, PICTURE))
    draw(picture, FLOORS, summaries(modules), reduced(modules), facts(modules))
    update(page, MARKS, table(modules))


def summaries(modules: dict[str, Module]) -> dict[str, str]:
    """Room -> the first line of its docstring, in the order of `FLOORS`, from the top."""
    found = {}
    for room in chain.from_iterable(reversed(FLOORS)):
        module = modules.get(f"{PACKAGE}.{room}")
        if module is not None:
            found[room] = (ast.get_docstring(module.tree) or "").partition("\n")[0]
    return found


def reduced(modules: dict[str, Module]) -> dict[str, list[str]]:
    """Room -> the rooms it imports that it does not also reach through another one.

    `errors` and `utils` are left out: nearly every room imports them.
    """
    everywhere = {"errors", "utils", PACKAGE}
    rooms = {
        room: used - everywhere
        for room, used in between_rooms(modules).items()
        if room not in everywhere
    }
    return {room: sorted(used - _below(used, rooms)) for room, used in rooms.items()}


def _below(rooms: set[str], graph: dict[str, set[str]]) -> set[str]:
    """All rooms that some of `rooms` reach, by any number of imports (a circle ends it, too)."""
    seen: set[str] = set()
    waiting = list(chain.from_iterable(graph.get(room, ()) for room in rooms))
    while waiting:
        room = waiting.pop()
        if room not in seen:
            seen.add(room)
            waiting += graph.get(room, ())
    return seen


def facts(modules: dict[str, Module]) -> str:
    """What the picture shows, as one line of text that is stored in it: rooms, words, imports."""
    parts = []
    for room, words in summaries(modules).items():
        parts.append(f"{room} [{words}] > {' '.join(reduced(modules).get(room, []))}")
    return "; ".join(parts)


def table(modules: dict[str, Module]) -> str:
    """The rooms as a Markdown table, from the top floor to the ground."""
    uses, words_of = between_rooms(modules), summaries(modules)
    lines = ["| floor | room | what it is | imports |", "|---|---|---|---|"]
    for room, words in words_of.items():
        others = [other for other in words_of if other in uses[room] - {"errors", "utils"}]
        path = _place(modules[f"{PACKAGE}.{room}"])
        lines.append(f"| {floor_of(room)} | `{path}` | {words} | {', '.join(others)} |")
    return "\n".join(lines) + "\n"


def _place(module: Module) -> str:
    """`tags/` for a folder, `errors.py` for a file."""
    return f"{module.room}/" if module.path.name == "__init__.py" else module.path.name


if __name__ == "__main__":
    run(main)
