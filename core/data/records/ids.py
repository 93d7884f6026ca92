"""Ids of records: names that stay in their folder, each once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace

from ...utils.files import MOST_BYTES, bad_id, safe_id
from .record import Item, Record, RecordSet, Skipped


class Distinct:
    """Gives every id once: the second of a name becomes NAME#1, the third NAME#2.

    Remembers 64-bit hashes in an open table, 16 to 32 bytes an id: tens of millions fit.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 << 10))  # 0 = empty
        self._count = 0
        self._repeats: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        """The name, or the first free NAME#k."""
        own, number = name, self._repeats.get(name, 0)
        while not self._add(own):
            number += 1
            own = f"{name}#{number}"
        if number:
            self._repeats[name] = number
        return own

    def _add(self, name: str) -> bool:
        """Whether the name is new; it is then remembered."""
        if 2 * self._count > len(self._table):
            self._grow()
        added = self._place(hash(name) & (2**64 - 1) or 1)
        self._count += added
        return added

    def _place(self, value: int) -> bool:
        mask = len(self._table) - 1
        at = value & mask
        while self._table[at]:
            if self._table[at] == value:
                return False
            at = (at + 1) & mask
        self._table[at] = value
        return True

    def _grow(self) -> None:
        old = self._table
        self._table = array("Q", bytes(16 * len(old)))
        for value in filter(None, old):
            self._place(value)


def checked(records: RecordSet) -> RecordSet:
    """The records with ids that name one file each, below the folder that they are written to.

    Repeated ids are numbered (`Distinct`), `..` becomes `__`, over-long names are cut and end in a
    hash; a record whose id no file can have (control characters, not UTF-8) is skipped by name.
    """

    def walk(start: int) -> Iterator[Item]:
        """The items from number `start` on, with clean ids that occur once."""
        if records.distinct:
            yield from map(_clean, records.walk(start))
            return
        distinct = Distinct()
        for number, item in enumerate(records.walk(0)):
            item = _clean(item)
            if isinstance(item, Record):
                item = replace(item, id=distinct(item.id))
            if number >= start:
                yield item

    return replace(records, walk=walk)


def contained(name: str) -> str:
    """An id as a path that stays below a folder; an ordinary id is returned as it is.

    >>> contained("../../x"), contained("/a//b"), contained("00012/000120007")
    ('__/__/x', 'a/b', '00012/000120007')
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join("__" if part == ".." else _short(part) for part in parts) or "_"


def _short(part: str) -> str:
    return part if len(part.encode()) <= MOST_BYTES else safe_id(part)


def _clean(item: Item) -> Item:
    """The item with a contained id, or why it has none."""
    if problem := bad_id(item.id):
        shown = item.id.encode("unicode_escape").decode()[:80]
        return Skipped(item.index, shown, f"{problem}; rename its files")
    if isinstance(item, Skipped):
        return item
    own = contained(item.id)
    return item if own == item.id else replace(item, id=own)
