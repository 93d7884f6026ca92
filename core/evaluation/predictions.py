"""A folder of predicted masks as an evaluator finds it: which are there, which are wrong, what made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import TTDError
from ..utils.prefetch import prefetch

KINDS = ("missing", "extra", "unreadable", "wrong-sized", "out of range")
SHOWN = 3  # named of each kind
CHUNK = 16  # masks a thread reads at a time
Part = TypeVar("Part")


@dataclass
class Problems:
    """What does not fit: for each of `KINDS` the ids, with details in brackets where there are any."""

    found: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: str, what: str) -> None:
        """Note one more."""
        self.found[kind].append(what)

    def merge(self, other: Problems) -> None:
        """Note those of another part."""
        for kind, names in other.found.items():
            self.found[kind] += names

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind: len(names) for kind, names in self.found.items()}

    def line(self) -> str:
        """`2 missing (a, b), 1 wrong-sized (c: 10x10 for 20x20)`; "" for none."""
        return ", ".join(
            f"{len(names)} {kind} ({', '.join(sorted(names)[:SHOWN])}{', ...' * (len(names) > SHOWN)})"
            for kind, names in self.found.items()
            if names
        )


def find_folder(path: str | Path, usual: str) -> Path:
    """The folder of predictions. TTDError that lists those that exist beside it or in `usual` when it does not."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    places = [place for place in dict.fromkeys((folder.parent, Path(usual))) if place.is_dir()]
    for place in places:
        if names := sorted(
            entry.name for entry in place.iterdir() if entry.is_dir() and "@" in entry.name
        ):
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            raise TTDError(f"{folder}: no such folder; {place}/ has {', '.join(names[:12])}{more}")
    raise TTDError(
        f"{folder}: no such folder, and none in {usual}/ either; make one with produce_masks_from_"
        f"{'text' if usual.endswith('caption') else 'tags'}.py"
    )


def list_predictions(folder: Path) -> dict[str, Path]:
    """ID.png by id. TTDError when there is none."""
    found = {
        path.stem: path for path in sorted(folder.glob("*.png")) if not path.name.startswith(".")
    }
    if not found:
        raise TTDError(f"{folder}: no ID.png in it, so nothing to score")
    return found


def read_protocol(folder: Path) -> dict[str, Any]:
    """protocol.json of the folder; {} when it is missing or not JSON."""
    try:
        content = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def data_of(folder: Path) -> str | None:
    """The set that predictions were made of: --data in protocol.json, else by the name ARCH@DATA@...; or None."""
    arguments = read_protocol(folder).get("arguments")
    if isinstance(arguments, dict) and isinstance(arguments.get("data"), str):
        return arguments["data"]
    parts = folder.resolve().name.split("@")
    return parts[1] if len(parts) > 2 else None


def check_kind(folder: Path, captions: bool) -> None:
    """TTDError when protocol.json says that the masks are of the other kind: of captions, or label maps of classes."""
    identity = read_protocol(folder).get("identity")
    keys = identity.keys() if isinstance(identity, dict) else ()
    if captions and "classes" in keys:
        raise TTDError(f"{folder}: label maps of classes; score them with evaluate_segmentation.py")
    if not captions and "tags" in keys:
        raise TTDError(
            f"{folder}: masks of captions; score them with evaluate_segmentation_for_text.py"
        )


def match(
    expected: Sequence[str], found: dict[str, Path], unscored: Iterable[str] = ()
) -> tuple[list[str], Problems]:
    """Ids that have a prediction, in the order expected, and what is missing or extra.

    unscored: ids whose predictions are neither scored nor extra. Raises TTDError when nothing
    matches at all.
    """
    problems = Problems()
    for name in expected:
        if name not in found:
            problems.add("missing", name)
    for name in sorted(found.keys() - set(expected) - set(unscored)):
        problems.add("extra", name)
    common = [name for name in expected if name in found]
    if not common:
        raise TTDError(
            f"none of the {len(found)} masks ({', '.join(list(found)[:SHOWN])}, ...) is of the "
            f"{len(expected)} images of the set ({', '.join(expected[:SHOWN])}, ...); see --data, --root"
        )
    return common, problems


def saved_scores(
    folder: Path, expected: Sequence[str], allow_missing: bool, unscored: Iterable[str] = ()
) -> tuple[dict[str, Path], Problems]:
    """FOLDER/scores/ID.npz of the ids expected, in their order, and what is missing or extra (see `match`).

    Raises TTDError when there are none, and for missing or extra ones unless `allow_missing`.
    """
    found = {
        path.stem: path
        for path in sorted((folder / "scores").glob("*.npz"))
        if not path.name.startswith(".")
    }
    if not found:
        raise TTDError(f"{folder}: no saved scores in it; make the masks with --save-scores")
    common, problems = match(expected, found, unscored)
    refuse(problems, folder / "scores", allow_missing)
    return {name: found[name] for name in common}, problems


def refuse(problems: Problems, where: Path, allowed: bool) -> None:
    """TTDError naming the problems, unless they are `allowed`."""
    if (line := problems.line()) and not allowed:
        raise TTDError(f"{where}: {line}. Add --allow-missing to score the others")


def in_threads(
    work: Callable[[list[str]], Part], names: Sequence[str], workers: int
) -> Iterator[tuple[int, Part]]:
    """work(chunk) for chunks of names, in threads and in order: yields (length of the chunk, result).

    Decoding leaves the interpreter free, so threads suffice; a chunk returns sums, so memory stays
    flat.
    """
    chunks = [list(names[i : i + CHUNK]) for i in range(0, len(names), CHUNK)]
    parts = prefetch(work, chunks, 2 * workers, workers)
    for chunk, part in zip(chunks, parts, strict=True):
        yield len(chunk), part
