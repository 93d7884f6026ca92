"""Image-caption pairs to train on: several inputs as one sequence, what is pruned left out."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from ..utils.files import expanded
from .pair_index import PairIndex, hash_id, open_index
from .records import Record, Skipped

LIST_HEADER = "# ttd pruned list"


class Pairs:
    """The pairs of several inputs as one sequence: `len(pairs)`, `pairs[i] -> Record`.

    What is pruned is left out. digest: changes with ids and captions; parts: the inputs.
    """

    def __init__(
        self,
        parts: Sequence[PairIndex],
        pruned: Sequence[str | Path | None] = (),
        limit: int | None = None,
    ) -> None:
        """Join the indices of the inputs.

        pruned: lists of ids to keep: none, one for all inputs, or one per input (None: all of it).
        limit: the first so many pairs only. TTDError: a number of lists that is neither 1 nor that
        of the inputs, lists that cannot be read, nothing left.
        """
        if len(pruned) not in (0, 1, len(parts)):
            raise TTDError(
                f"{len(pruned)} pruned lists for {len(parts)} sets: give one for all, "
                "or one for each"
            )
        self.parts = list(parts)
        self._starts = np.cumsum([0, *map(len, parts)])
        if len(pruned) == 1 and pruned[0]:
            _check_apart(self.parts)
        lists = list(pruned) * (len(parts) if len(pruned) == 1 else 1)
        self._kept = _keep(self.parts, self._starts, lists) if lists else None
        count = int(self._starts[-1]) if self._kept is None else len(self._kept)
        self._count = min(count, limit or count)
        if not self._count:
            held = "; ".join(part.description for part in parts)
            pruned_all = ", or the pruned list is of another set" if lists else ""
            raise TTDError(f"no usable pair of an image and a caption in {held}{pruned_all}")
        self.digest = self._digest()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Record:
        """Pair `number` in [0, len). Any thread may ask."""
        whole = number if self._kept is None else int(self._kept[number])
        part = int(np.searchsorted(self._starts, whole, side="right")) - 1
        return self.parts[part][whole - int(self._starts[part])]

    @property
    def descriptions(self) -> list[str]:
        """A line about each input."""
        return [part.description for part in self.parts]

    @property
    def skipped(self) -> list[Skipped]:
        """What the inputs hold that cannot be used, as far as their index knows."""
        return [item for part in self.parts for item in part.skipped]

    def _digest(self) -> str:
        own = json.dumps([[part.digest for part in self.parts], self._count]).encode()
        if self._kept is not None:
            own += np.ascontiguousarray(self._kept[: self._count]).tobytes()
        return hashlib.sha256(own).hexdigest()[:32]


def open_pairs(
    data: str,
    root: str | Path = "../",
    pruned: Sequence[str] = (),
    limit: int | None = None,
    refresh: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    trust: bool = False,
) -> Pairs:
    """The pairs of `data` = "NAME+NAME".

    Each is ROOT/NAME/train, or a folder, JSONL, tar or pattern of tars. pruned ("none" for all of
    an input), limit: see `Pairs`; refresh, progress, trust: see `open_index`. TTDError for what is
    not there or holds no pair.
    """
    parts = [open_index(place, refresh, progress, trust) for place in find_pairs(data, root)]
    return Pairs(parts, [None if name == "none" else name for name in pruned], limit)


def find_pairs(data: str, root: str | Path, domain: str = "train") -> list[str]:
    """Where the parts of `data` = "NAME+NAME" are.

    Each is ROOT/NAME/DOMAIN, else ROOT/NAME, else the path or pattern itself. TTDError when no part
    is named, and for one that is not there.
    """
    parts = [part for part in data.split("+") if part]
    if data and expanded(data).exists():  # its name may have a +
        parts = [data]
    if not parts:
        raise TTDError("no data named: --data cc3m+cc12m, a folder, a JSONL or shards")
    return [_find_part(part, expanded(root), domain) for part in parts]


def _find_part(name: str, root: Path, domain: str) -> str:
    if not Path(name).is_absolute():
        for place in (root / name / domain, root / name):
            if place.is_dir():
                return str(place)
    if expanded(name).exists() or any(char in name for char in "*?{["):
        return name
    raise TTDError(
        f"no pairs called {name}: neither {root / name / domain} nor {name} is there; "
        "pass --root FOLDER, the parent of the sets, or a folder, a JSONL or shards as --data"
    )


def read_pruned(path: str | Path) -> npt.NDArray[np.uint64]:
    """Hashes of the ids to keep, sorted uint64 [n], from a text file of one id a line.

    TTDError when it is missing, no text, or empty.
    """
    hashes = array("Q")
    try:
        with expanded(path).open(encoding="utf-8-sig", newline="\n") as lines:
            for line in lines:
                name = line.rstrip("\r\n")
                if name and not name.startswith(LIST_HEADER):
                    hashes.append(hash_id(name))
    except OSError as error:
        raise TTDError(
            f"{path}: pruned list cannot be read ({error.strerror}); "
            "make it with tools/prune_pairs.py"
        ) from None
    except UnicodeDecodeError:
        raise TTDError(f"{path}: not a pruned list, which is text with one id a line") from None
    if not hashes:
        raise TTDError(f"{path}: the pruned list names no pair")
    return np.unique(np.frombuffer(hashes, np.uint64))


def _check_apart(parts: Sequence[PairIndex]) -> None:
    """TTDError when inputs share ids, so that one pruned list cannot say which pairs it keeps."""
    hashes = np.concatenate([np.unique(part.hashes) for part in parts])
    if shared := len(hashes) - len(np.unique(hashes)):
        raise TTDError(
            f"{shared} ids occur in more than one of the {len(parts)} sets, so one pruned list "
            "does not tell them apart; give a list for each"
        )


def _keep(
    parts: Sequence[PairIndex], starts: npt.NDArray[np.int64], lists: Sequence[str | Path | None]
) -> npt.NDArray[np.int64]:
    """Numbers of the pairs, over all parts, that the lists keep."""
    known = {str(name): read_pruned(name) for name in lists if name}
    kept = []
    for part, start, name in zip(parts, starts, lists, strict=False):
        flags = np.isin(part.hashes, known[str(name)]) if name else np.ones(len(part), bool)
        kept.append(np.flatnonzero(flags) + start)
    return np.concatenate(kept)
