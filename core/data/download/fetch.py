"""One file from the network, whole and checked or not at all; what broke off is resumed.

fetch(Link("https://host/voc.tar", sums={"md5": "..."}), Path("downloads/voc.tar"))
"""

from __future__ import annotations

import http.client
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...errors import TTDError
from .links import RANGE, Broken, Policy, Response, Stalled, check_address, in_time, open_link
from .part import Part
from .sums import Measured, check_sums, difference, measure

CHUNK = 1 << 16
WORTH = 1 << 26  # bytes of progress after which failures are counted from the start
MOST = 1 << 38  # bytes of any file, 256 GiB
WEB_PAGES = ("text/html", "application/xhtml+xml")
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "ttd"}


@dataclass(frozen=True)
class Link:
    """A file to fetch.

    size: bytes, and sums: checksums by kind (`sha256`, `md5`), both where they are published.
    most: never more bytes than that.
    """

    url: str
    size: int | None = None
    sums: Mapping[str, str] = field(default_factory=dict)
    most: int = MOST


def fetch(
    link: Link,
    path: Path,
    policy: Policy | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Measured:
    """Fetch a file to `path`; its size and sums. A transfer that broke off before is resumed.

    progress: called with the bytes that are there and those that there will be, None: not known.
    Errors: TTDError in one line: an address that is not fetched, a server that does not have it,
    a transfer that broke off (what is there is kept), another size or sum than published (nothing
    is kept), more bytes than stated, no room.
    """
    policy = policy or Policy()
    check_address(link.url, policy)
    check_sums(link.sums, link.url)
    with Part(path) as part:
        resumed = part.size > 0
        while True:
            _complete(link, part, policy, progress)
            found = measure(part.path, link.sums)
            problem = difference(found, link.size, link.sums)
            if not problem:
                part.finish()
                return found
            part.restart()
            if not resumed:
                raise TTDError(f"{link.url}: {problem}; it is damaged, or another file by now")
            resumed = False  # the beginning may be another file's: once more, from the start


def _complete(
    link: Link, part: Part, policy: Policy, progress: Callable[[int, int | None], None]
) -> None:
    """Transfer until the file is whole, as often as it is worth while."""
    failures = 0
    while True:
        before = part.size
        try:
            _transfer(link, part, policy, progress)
            return
        except Broken as error:
            failures = 1 if part.size - before >= WORTH else failures + 1
            if failures >= policy.tries:
                raise TTDError(
                    f"{link.url}: broke off after {part.size} bytes ({error}); "
                    "run the same command again, it resumes"
                ) from None
            time.sleep(max(error.wait, policy.pause * 2 ** (failures - 1)))


def _transfer(
    link: Link, part: Part, policy: Policy, progress: Callable[[int, int | None], None]
) -> None:
    """One request, and its body to the end of the file. `Broken` where that ends early."""
    if part.size and part.known(link.url).get("total") == part.size:
        return  # stopped between the last byte and the check
    response = _answer(link, part, policy)
    try:
        total = _receive(response, link, part, policy, progress)
    except Stalled:
        raise
    except BaseException:
        response.close()
        raise
    response.close()
    whole = link.size if total is None else total
    if whole is not None and part.size < whole:
        raise Broken(f"of {whole}")


def _receive(
    response: Response,
    link: Link,
    part: Part,
    policy: Policy,
    progress: Callable[[int, int | None], None],
) -> int | None:
    """The body of an answer, after every check of its headers; the length that it states."""
    _check_kind(response, link)
    total = _total(response, part)
    _check_total(total, link, part)
    if response.status == 200:
        part.restart()
        part.note(link.url, _version(response), total)
    _check_room(part, total)
    _copy(response, part, _end(total, link), policy, lambda: progress(part.size, total))
    return total


def _answer(link: Link, part: Part, policy: Policy) -> Response:
    """The response to a request for the whole file, or for the rest of what is there."""
    headers, known = dict(HEADERS), part.known(link.url)
    version = known.get("version")
    if part.size and (version or link.sums):
        headers["Range"] = f"bytes={part.size}-"
        if version:
            headers["If-Range"] = str(version)
    elif part.size:
        part.restart()
    try:
        return open_link(link.url, headers, policy)
    except Broken as error:
        if str(error) != RANGE:
            raise
        part.restart()  # longer than the file is by now
        return open_link(link.url, HEADERS, policy)


def _check_kind(response: Response, link: Link) -> None:
    """TTDError for a page about the file, and for a body that is packed on its way."""
    kind = response.headers.get_content_type()
    if kind in WEB_PAGES and not link.url.endswith((".html", ".htm")):
        raise TTDError(f"{link.url}: a web page came instead of the file; open it in a browser")
    if (response.headers.get("Content-Encoding") or "identity").strip() != "identity":
        raise TTDError(f"{link.url}: the server packs it on the way; fetch it by hand")


def _total(response: Response, part: Part) -> int | None:
    """Bytes of the whole file, None where the server does not say."""
    if response.status == 206:
        said = response.headers.get("Content-Range") or ""
        match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", said.strip())
        if match is None or int(match[1]) != part.size:
            part.restart()
            raise Broken("the server sends another part of the file than asked for")
        return None if match[3] == "*" else int(match[3])
    length = (response.headers.get("Content-Length") or "").strip()
    return int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _check_total(total: int | None, link: Link, part: Part) -> None:
    """TTDError where the stated length is not the published one, too long, or not to be told."""
    if total is None:
        if link.size is None and not link.sums:
            raise TTDError(
                f"{link.url}: the server does not say how long it is, so whether it is whole "
                "could not be told; fetch it by hand"
            )
        return
    if total == 0:
        raise TTDError(f"{link.url}: the server has an empty file")
    if link.size is not None and total != link.size:
        part.restart()
        raise TTDError(f"{link.url}: the server has {total} bytes, published are {link.size}")
    if total > link.most:
        raise TTDError(f"{link.url}: {total} bytes, at most {link.most} are expected")


def _end(total: int | None, link: Link) -> int:
    """The byte that the file must not go beyond."""
    known = [value for value in (total, link.size) if value is not None]
    return min([*known, link.most])


def _check_room(part: Part, total: int | None) -> None:
    """TTDError before the transfer where the disk has no room for the rest."""
    free = shutil.disk_usage(part.path.parent).free
    needed = 0 if total is None else total - part.size
    if needed > free:
        raise TTDError(
            f"{part.target}: {needed} bytes are needed, {free} are free; make room and run the "
            "same command again, it resumes"
        )


def _version(response: Response) -> str:
    """What the server calls this version of the file; "" where it does not."""
    tag = response.headers.get("ETag") or ""
    weak = tag.startswith("W/")
    return str((not weak and tag) or response.headers.get("Last-Modified") or "")


def _copy(
    response: Response, part: Part, end: int, policy: Policy, progress: Callable[[], None]
) -> None:
    """The body to the part. `Broken` where it breaks off or hardly moves; TTDError beyond `end`."""
    begun, at = time.monotonic(), part.size
    read = partial(response.read1, CHUNK)
    if response.chunked:  # the length of every chunk is a line
        read = partial(in_time, read, policy.timeout)
    try:
        while chunk := read():
            if part.size + len(chunk) > end:
                part.restart()
                raise TTDError(f"{response.url}: more than the {end} bytes that it has; refused")
            part.write(chunk)
            progress()
            if (passed := time.monotonic() - begun) > policy.window:
                if part.size - at < policy.slowest * passed:
                    raise Broken(f"{part.size - at} bytes in {passed:.0f} s")
                begun, at = time.monotonic(), part.size
    except TimeoutError:
        raise Broken(f"nothing for {policy.timeout:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise Broken(" ".join(str(error).split())[:120] or type(error).__name__) from None
