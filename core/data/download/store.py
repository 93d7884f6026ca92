"""Releases on this machine: what is there, what was measured of it, what people must fetch.

`sums.json` in the folder of downloads keeps size and checksum of every file as it was seen first.
Where no sum is published, that one is compared later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import TTDError
from ...utils.files import read_json, section, write_json
from ...utils.provenance import now
from .catalogue import Release
from .fetch import fetch
from .links import Policy
from .sums import Measured, difference, measure
from .unpack import unpack

RECORD = "sums.json"


class ByHand(TTDError):
    """A release that is not there and that only people can fetch. Its text says how."""


@dataclass
class Store:
    """Releases in folders: that of downloads, and others by name (`weights`, `root`).

    policy: how files are fetched.
    """

    downloads: Path
    others: Mapping[str, Path] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)

    def place(self, release: Release) -> Path:
        """Where a release is, or will be."""
        return release.place(self.downloads, self.others)

    def state(self, release: Release) -> str:
        """In a few words, without reading it: "there", "partly there: N bytes", "by hand", ..."""
        place = self.place(release)
        if release.holds:
            return "there" if not _lacking(place, release) else "by hand"
        if place.is_file():
            return "there"
        part = place.with_name(f".{place.name}.part")
        if part.is_file():
            return f"partly there: {part.stat().st_size} bytes"
        if release.url is not None and release.url.startswith("http:"):
            return "to fetch" if self.policy.plain_http else "by hand, or with --allow-http"
        return "by hand" if release.url is None else "to fetch"

    def ensure(
        self,
        name: str,
        release: Release,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> Path:
        """The release, fetched where it is not there, checked, and unpacked where it is packed.

        name: of the release in its list. progress: as that of `fetch`. Returns the file, or the
        folder that it was unpacked to. Errors: `ByHand`; TTDError as `fetch` and `unpack`, and for
        a file that differs from what was published or, without that, from what was seen first.
        """
        place = self.place(release)
        if release.holds:
            if lacking := _lacking(place, release):
                raise ByHand(by_hand(release, place, f"{place} has no {lacking}"))
            return place
        found = self._file(name, release, place, progress)
        if release.unpack is None:
            return place
        folder = self.downloads / release.unpack
        unpack(place, folder, release.only, mark=found)
        return folder

    def _file(
        self, name: str, release: Release, place: Path, progress: Callable[[int, int | None], None]
    ) -> str:
        """The SHA-256 of the file, which is there now."""
        if place.is_file():
            return self._checked(name, release, place)
        if release.link is None:
            raise ByHand(by_hand(release, place, f"{place} is not there"))
        try:
            found = fetch(release.link, place, self.policy, progress)
        except TTDError as error:
            raise TTDError(f"{error} (its page: {release.page}; put it to {place})") from None
        self._compare(name, release, place, found)
        return found.sha256

    def _checked(self, name: str, release: Release, place: Path) -> str:
        """The sum of a file that is there; read only if it has changed since it was seen."""
        known = section(read_json(self.downloads / RECORD), name)
        if known.get("stamp") == _stamp(place) and known.get("sums") == release.sums:
            return str(known.get("sha256"))
        found = measure(place, release.sums)
        self._compare(name, release, place, found)
        return found.sha256

    def _compare(self, name: str, release: Release, place: Path, found: Measured) -> None:
        """TTDError for another file than published or seen first; else it is kept in mind."""
        record = read_json(self.downloads / RECORD) or {}
        if problem := difference(found, release.size, release.sums):
            raise TTDError(f"{place}: {problem}; delete it and run the same command again")
        known = section(record, name).get("sha256")
        if not release.sums and known not in (None, found.sha256):
            raise TTDError(
                f"{place}: its sha256 is {found.sha256}, when it was seen first it was {known}; if "
                f"its owners have changed it, take {name} out of {self.downloads / RECORD}"
            )
        entry: dict[str, Any] = {"sha256": found.sha256, "size": found.size, "sums": release.sums}
        entry |= {"stamp": _stamp(place), "url": release.url, "seen": now()}
        self.downloads.mkdir(parents=True, exist_ok=True)
        write_json(self.downloads / RECORD, {**record, name: entry})


def by_hand(release: Release, place: Path, problem: str) -> str:
    """What people must do for a release that is not fetched for them, in one line."""
    verb = "unpack it to" if release.holds else "save it as"
    return f"{problem}: open {release.page} (licence: {release.licence}) and {verb} {place}"


def _lacking(folder: Path, release: Release) -> str:
    """What a folder that people made lacks, "" where it has everything."""
    return ", ".join(part for part in release.holds if not (folder / part).exists())


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
