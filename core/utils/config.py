"""Settings: YAML and flags to checked frozen dataclasses, and back to plain values.

values = merge(read_recipe("configs/ttd_tiny.yaml"), {"lora.rank": 4})
config = build(TTDConfig, values, "configs/ttd_tiny.yaml")       # unknown keys are errors
plain(config)                                                    # as YAML and JSON hold it
"""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from ..errors import TTDError
from .files import expanded, is_there

Config = TypeVar("Config")
MOST = 1e18  # of any number among settings
EXTENDS = "extends"  # names the recipe that a recipe changes


class UnknownSetting(TTDError):
    """Settings that there are not. names: theirs; advice: those there are, and those meant."""

    def __init__(self, source: str, names: list[str], known: list[str]):
        """source: where they were read; known: the settings there are."""
        self.source, self.names, self.known = source, names, known
        near = [get_close_matches(name, known, 1) for name in names]
        meant = list(chain.from_iterable(near))
        self.advice = f"there are {', '.join(known)}"
        if meant:
            self.advice += f"; did you mean {', '.join(meant)}?"
        super().__init__(f"{source}: unknown setting {', '.join(names)}; {self.advice}")


def read_yaml(path: str | Path, advice: str = "configs/ holds some that work") -> dict[str, Any]:
    """The mapping in a YAML file, {} for an empty file.

    TTDError when it cannot be read, which ends in `advice`, or holds no mapping.
    """
    from .yaml_files import load_yaml

    place = expanded(path)
    if not is_there(place):
        raise TTDError(f"{path}: cannot be read (No such file or directory); {advice}")
    content = load_yaml(place) or {}
    if not isinstance(content, dict):
        raise TTDError(f"{path}: settings must be lines of `name: value`")
    return content


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, over those of the file that it `extends`.

    extends: FILE names another one, by its path from there, which may extend a third. TTDError
    when a file cannot be read, or extends itself.
    """
    levels = [content for _, content in _levels(path)]
    return merge(*reversed(levels)) if len(levels) > 1 else levels[0]


def _levels(path: str | Path) -> list[tuple[str | Path, dict[str, Any]]]:
    """What stands in a recipe, then in the one that it extends, and so on, with their files."""
    levels: list[tuple[str | Path, dict[str, Any]]] = []
    seen: list[Path] = []
    place: str | Path | None = path
    while place is not None:
        # First: it tells what is no file.
        content = read_yaml(place, f"{seen[-1]} extends it") if seen else read_yaml(place)
        file = expanded(place)
        if file.resolve() in seen:
            raise TTDError(f"{path}: extends itself, by way of {file.name}")
        seen.append(file.resolve())
        base = content.pop(EXTENDS, None)
        if base is not None and (not isinstance(base, str) or not base):
            raise TTDError(f"{place}: extends: wanted is the name of a YAML file")
        levels.append((place, content))
        place = file.parent / base if base else None
    return levels


def blamed(error: TTDError, path: str | Path) -> TTDError:
    """An error of `build` about the recipe at `path`, in the name of the file that is to be mended.

    error: with `path` as its source. That file is the nearest to `path`, along `extends`, in which
    the setting stands. The same error where none of them has it.
    """
    for place, content in _levels(path):
        keys = list(_keys(nested(content)))
        if isinstance(error, UnknownSetting):
            own = [key[-1] for key in keys if _source(path, key) == error.source]
            if names := [name for name in error.names if name in own]:
                source = str(place) + error.source.removeprefix(str(path))
                return UnknownSetting(source, names, error.known)
        elif any(str(error).startswith(f"{_source(path, key)}: {key[-1]} ") for key in keys):
            return TTDError(str(place) + str(error).removeprefix(str(path)))
    return error


def _keys(values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The path to every setting and to every section: ("lora",), ("lora", "rank")."""
    for name, value in values.items():
        yield (str(name),)
        if isinstance(value, Mapping):
            yield from ((str(name), *rest) for rest in _keys(value))


def _source(path: str | Path, key: tuple[str, ...]) -> str:
    """How `build` calls the place of a setting: the file and the sections around it."""
    return ": ".join([str(path), *key[:-1]])


def merge(*levels: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of several sources; the later win, key by key. Keys may be dotted."""
    merged: dict[str, Any] = {}
    for level in levels:
        for key, value in nested(level).items():
            old = merged.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                value = {**old, **value}
            merged[key] = value
    return merged


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings: {"lora.rank": 4} -> {"lora": {"rank": 4}}."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = str(key).partition(".")
        old = result.get(section)
        if name:
            before = old if isinstance(old, Mapping) else {}
            result[section] = {**before, name: value}
        elif isinstance(old, dict) and isinstance(value, Mapping):
            result[section] = {**value, **old}
        else:
            result[section] = value
    return result


def build(kind: type[Config], values: Mapping[str, Any], source: str) -> Config:
    """A dataclass of type `kind` from a mapping; values are checked against its annotations.

    `source` names the values in errors. Served: int, float, str, bool, X | None, tuple[X, ...] and
    dataclasses. TTDError: unknown or missing keys (those there are, are listed), a wrong type, and
    what `kind` itself refuses.
    """
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(map(str, values)) - set(known)):
        raise UnknownSetting(source, unknown, list(known))
    required = [
        name
        for name, item in known.items()
        if item.default is MISSING and item.default_factory is MISSING
    ]
    if missing := [name for name in required if name not in values]:
        raise TTDError(f"{source}: setting {', '.join(missing)} is missing")
    checked = {
        name: _checked(hints[name], value, f"{source}: {name}") for name, value in values.items()
    }
    return kind(**checked)


def plain(config: Any) -> dict[str, Any]:
    """A dataclass as nested mappings, lists and scalars; `build` reads them back."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def _checked(kind: Any, value: Any, what: str) -> Any:
    """`value` as the annotated type; TTDError saying `what` must be of which type."""
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise TTDError(f"{what} must be settings of its own, not {value!r:.80}")
        return build(kind, value, what)  # type: ignore[arg-type]
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return _checked_optional(typing.get_args(kind), value, what)
    if typing.get_origin(kind) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_checked(typing.get_args(kind)[0], item, what) for item in items)
    if kind is float and type(value) in (int, str):  # YAML 1.1 reads 1e-4 as a string
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if type(value) is not kind:
        raise TTDError(f"{what} must be {kind.__name__}, not {value!r:.80}")
    if kind in (int, float) and not abs(value) <= MOST:  # NaN is not either
        raise TTDError(f"{what} is {value!r:.40}, which is no number that a setting can have")
    return value


def _checked_optional(choices: tuple[Any, ...], value: Any, what: str) -> Any:
    """`value` as the one type of `choices` that is not None; the word none is None there."""
    written = str(value).casefold() if isinstance(value, str) else None
    if (value is None or written == "none") and type(None) in choices:
        return None
    kind = next(choice for choice in choices if choice is not type(None))
    return _checked(kind, value, what)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
