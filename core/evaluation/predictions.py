"""A folder of predicted masks: what is there, what is wrong with it, what made it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import TTDError, UnreadableError
from ..utils.files import read_json, visible_names
from ..utils.prefetch import prefetch
from ..utils.shown import beginning, first_few

KINDS = ("missing", "extra", "unreadable", "wrong-sized", "out of range")
FOLDERS = 12  # folders named in a message
CHUNK = 16  # masks a thread reads at a time

Part = TypeVar("Part")
Values: TypeAlias = npt.NDArray[Any]


@dataclass
class Problems:
    """What does not fit: the ids for each of `KINDS`, with details in brackets where there are."""

    found: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: str, what: str) -> None:
        """Note one more."""
        self.found[kind].append(what)

    def merge(self, other: Problems) -> None:
        """Note those of another chunk."""
        for kind, names in other.found.items():
            self.found[kind] += names

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind: len(names) for kind, names in self.found.items()}

    def line(self) -> str:
        """`2 missing (a, b), 1 wrong-sized (c: 10x10 for 20x20)`; "" for none."""
        kinds = [(kind, sorted(names)) for kind, names in self.found.items() if names]
        return ", ".join(f"{len(names)} {kind} ({beginning(names)})" for kind, names in kinds)


def find_folder(path: str | Path, usual: str) -> Path:
    """The folder of predictions.

    TTDError when it does not exist, naming those that exist beside it or in `usual`.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    places = [place for place in dict.fromkeys((folder.parent, Path(usual))) if place.is_dir()]
    for place in places:
        results = [name for name in visible_names(place) if "@" in name and (place / name).is_dir()]
        if results:
            names = first_few(results, FOLDERS)
            raise TTDError(f"{folder}: no such folder; {place}/ has {names}")
    kind = "text" if usual.endswith("caption") else "tags"
    raise TTDError(
        f"{folder}: no such folder, and none in {usual}/ either; "
        f"make one with produce_masks_from_{kind}.py"
    )


def list_predictions(folder: Path, ending: str = ".png") -> dict[str, Path]:
    """The files ID.png of a folder by id, sorted; {} where there are none."""
    files = (path for path in sorted(folder.glob(f"*{ending}")) if not path.name.startswith("."))
    return {path.stem: path for path in files}


def find_predictions(folder: Path) -> dict[str, Path]:
    """ID.png by id. TTDError when there is none."""
    found = list_predictions(folder)
    if not found:
        raise TTDError(f"{folder}: no ID.png in it, so nothing to score")
    return found


def read_protocol(folder: Path) -> dict[str, Any]:
    """protocol.json of the folder; {} when it is missing or not JSON."""
    return read_json(folder / "protocol.json") or {}


def data_of(folder: Path) -> str | None:
    """The set that predictions were made of; None where that is not known.

    It is --data in protocol.json, else DATA in the folder's name ARCH@DATA@...
    """
    arguments = read_protocol(folder).get("arguments")
    data = arguments.get("data") if isinstance(arguments, dict) else None
    if isinstance(data, str):
        return data
    parts = folder.resolve().name.split("@")
    return parts[1] if len(parts) > 2 else None


def limit_of(folder: Path) -> int | None:
    """The --limit that predictions were made with: they are of the first so many of the set."""
    arguments = read_protocol(folder).get("arguments")
    limit = arguments.get("limit") if isinstance(arguments, dict) else None
    return limit if isinstance(limit, int) and limit > 0 else None


def check_kind(folder: Path, captions: bool) -> None:
    """TTDError when protocol.json says that the masks are of the other kind.

    The kinds are masks of captions and label maps of classes.
    """
    identity = read_protocol(folder).get("identity")
    keys = identity.keys() if isinstance(identity, dict) else ()
    if captions and "classes" in keys:
        raise TTDError(f"{folder}: label maps of classes; score them with evaluate_segmentation.py")
    if not captions and "tags" in keys:
        raise TTDError(
            f"{folder}: masks of captions; score them with evaluate_segmentation_for_text.py"
        )


def classes_of(folder: Path) -> str | None:
    """`Dataset.digest` when the masks were made; None where protocol.json does not hold it."""
    identity = read_protocol(folder).get("identity")
    digest = identity.get("classes") if isinstance(identity, dict) else None
    return digest if isinstance(digest, str) else None


def check_classes(folder: Path, digest: str, name: str) -> None:
    """TTDError when the masks were made with other classes than the set has now."""
    made = classes_of(folder)
    if made is not None and made != digest:
        raise TTDError(
            f"{folder}: made with other classes, in another order, or with another meaning of "
            f"label 0 than {name} has now; score them with the set that they were made of "
            "(--data), or make them again"
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
            f"none of the {len(found)} masks ({', '.join(list(found)[:3])}, ...) is of the "
            f"{len(expected)} images of the set ({', '.join(expected[:3])}, ...); "
            "see --data, --root"
        )
    return common, problems


def saved_scores(
    folder: Path, expected: Sequence[str], allow_missing: bool, unscored: Iterable[str] = ()
) -> tuple[dict[str, Path], Problems]:
    """FOLDER/scores/ID.npz of the ids expected, in their order, and what is missing or extra.

    Raises TTDError when there are none, and for missing or extra ones unless `allow_missing`.
    """
    found = list_predictions(folder / "scores", ".npz")
    if not found:
        raise TTDError(f"{folder}: no saved scores in it; make the masks with --save-scores")
    common, problems = match(expected, found, unscored)
    refuse(problems, folder / "scores", allow_missing)
    return {name: found[name] for name in common}, problems


def read_prediction(
    problems: Problems,
    name: str,
    path: Path,
    truth: Values,
    *,
    read: Callable[[Path], Values],
    wrong: Callable[[Values], str],
) -> Values | None:
    """The prediction of the image `name`, of the size of its truth [H, W].

    read: opens the file, TTDError when it cannot; wrong: what is wrong with the values, "" for
    nothing. None where the prediction cannot be scored: the reason is then added to `problems`.
    UnreadableError where the system cannot read it now.
    """
    try:
        values = read(path)
    except UnreadableError:
        raise  # what it holds is not known: without it, the score would be of another set
    except TTDError as error:
        problems.add("unreadable", f"{name}: {str(error).removeprefix(f'{path}: ')}")
        return None
    if reason := wrong(values):
        problems.add("out of range", f"{name}: {reason}")
        return None
    if values.shape != truth.shape:
        problems.add("wrong-sized", f"{name}: {_size(values)} for {_size(truth)}")
        return None
    return values


def score_chunks(
    work: Callable[[list[str]], tuple[Part, Problems]],
    names: Sequence[str],
    problems: Problems,
    workers: int,
    progress: Callable[[int], None],
) -> Generator[Part, None, None]:
    """The results of `work` on chunks of names, in order; what it found wrong goes to `problems`.

    progress: called with the length of every chunk.
    """
    with closing(in_threads(work, names, workers)) as parts:
        for count, (part, wrong) in parts:
            problems.merge(wrong)
            progress(count)
            yield part


def refuse(problems: Problems, where: Path, allowed: bool, scored: bool = True) -> None:
    """TTDError naming the problems, unless they are `allowed`, or where nothing was `scored`."""
    line = problems.line()
    if line and not allowed:
        raise TTDError(f"{where}: {line}. Add --allow-missing to score the others")
    if not scored:
        raise TTDError(f"{where}: no prediction can be scored: {line}")


def in_threads(
    work: Callable[[list[str]], Part], names: Sequence[str], workers: int
) -> Generator[tuple[int, Part], None, None]:
    """(length of the chunk, work(chunk)) for chunks of names, in threads and in order.

    Decoding leaves the interpreter free, so threads suffice; a chunk returns sums, so memory stays
    flat.
    """
    chunks = [list(names[i : i + CHUNK]) for i in range(0, len(names), CHUNK)]
    with closing(prefetch(work, chunks, 2 * workers, workers)) as parts:
        for chunk, part in zip(chunks, parts, strict=True):
            yield len(chunk), part


def _size(values: Values) -> str:
    height, width = np.shape(values)
    return f"{width}x{height}"
