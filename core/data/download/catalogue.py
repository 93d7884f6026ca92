"""The list of what can be fetched: addresses, pages, licences, sizes and sums as far as published.

`configs/downloads.yaml` is the list that ships; a list of one's own (a mirror) has the same form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import TTDError
from ...utils.config import build, read_yaml
from .fetch import Link
from .sums import check_sums


@dataclass(frozen=True)
class Release:
    """A file, or a folder, that its owners publish.

    what: in a few words. page: where people find it. licence: what its owners say; "not stated"
    where they do not. source: who says so, and where the address is from. url: of the file itself;
    None where it needs a browser (a sign-in, a form, a licence to accept). to: where it is put,
    below the folder of weights (`weights/...`), of the sets (`root/...`) or of downloads. size:
    bytes, sha256, md5: only as published. unpack: folder below that of downloads; only: members
    that are wanted. holds: of a folder that people unpack themselves, what must be in it.
    """

    what: str
    page: str
    licence: str
    source: str
    to: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    unpack: str | None = None
    only: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()

    @property
    def sums(self) -> dict[str, str]:
        """The published checksums by kind."""
        known = {"sha256": self.sha256, "md5": self.md5}
        return {kind: value for kind, value in known.items() if value is not None}

    @property
    def link(self) -> Link | None:
        """What is fetched, None where only people can."""
        if self.url is None:
            return None
        return Link(self.url, self.size, self.sums)

    def place(self, downloads: Path, others: Mapping[str, Path]) -> Path:
        """Where it is, or will be. others: folders by the first part of `to`."""
        first, *rest = PurePosixPath(self.to).parts
        return others.get(first, downloads / first).joinpath(*rest)


def read_catalogue(path: Path) -> dict[str, Release]:
    """The releases of a list by their names. TTDError in one line for whatever is wrong in it."""
    content = read_yaml(path, "name a list of releases, as configs/downloads.yaml")
    releases = {}
    for name, values in content.items():
        where = f"{path}: {name}"
        if not isinstance(values, Mapping):
            raise TTDError(f"{where} must be lines of `setting: value`")
        release = build(Release, values, where)
        check_sums(release.sums, where)
        for place in (release.to, release.unpack or "x"):
            if (
                PurePosixPath(place).is_absolute()
                or ".." in PurePosixPath(place).parts
                or not place
            ):
                raise TTDError(f"{where}: {place!r} leaves the folder of downloads")
        releases[str(name)] = release
    return releases
