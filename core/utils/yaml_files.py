"""YAML of strangers to plain values: no code, no surprise, no bomb; one line for what is wrong."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ..errors import TTDError
from .files import regular_text

MOST_BYTES = 1 << 26
MOST_VALUES = 1_000_000  # after aliases are written out: "billion laughs" are a few hundred bytes
DEEPEST = 50
# Of constructors, on text that its tag does not fit: `!!timestamp x`.
DAMAGE = (ValueError, TypeError, AttributeError, LookupError)

BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where it is installed


class _Loader(BASE):  # type: ignore[misc]  # chosen above
    """Refuses keys that occur twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; ConstructorError for a key that occurs twice."""
        seen = set[str]()
        for key, _ in node.value:
            name = str(getattr(key, "value", key))
            if name in seen and name != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{name[:80]}' occurs twice", key.start_mark
                )
            seen.add(name)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def load_yaml(path: Path) -> Any:
    """The content of a YAML file, None for an empty one. TTDError in one line for anything else."""
    return parse_yaml(regular_text(path, MOST_BYTES), path)


def parse_yaml(text: str, where: object) -> Any:
    """The content of YAML text, None for an empty one. TTDError naming `where`."""
    try:
        _check_depth(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ArithmeticError, RecursionError, *DAMAGE) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TTDError(f"{where}: not YAML ({reason})") from None


def _check_depth(text: str) -> None:
    """ValueError for nesting that may exhaust the stack, before any node is made."""
    depth = 0
    for event in yaml.parse(text, Loader=BASE):
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")


def _check_size(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for with its aliases written out. ValueError for too many."""
    if id(node) in known:
        if known[id(node)] < 0:
            raise ValueError("an alias that contains itself")
        return known[id(node)]
    known[id(node)] = -1
    count = 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            count += _check_size(key, known) + _check_size(value, known)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_check_size(value, known) for value in node.value)
    if count > MOST_VALUES:
        raise ValueError(f"aliases stand for more than {MOST_VALUES} values")
    known[id(node)] = count
    return count
