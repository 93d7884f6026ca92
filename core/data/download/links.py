"""Which addresses are opened, and what their servers answer, in one line.

Only https, unless http is allowed explicitly; redirects are followed by hand, because urllib reads
the whole body of each, which need not end.
"""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from ...errors import TTDError

Value = TypeVar("Value")
Response = Any  # http.client's, which the type of `open` does not say
MOVED = (301, 302, 303, 307, 308)
BUSY = (408, 425, 429, 500, 502, 503, 504)
SIGNED_IN = (401, 403, 407)
GONE = (404, 410)
LONGEST_WAIT = 60.0  # seconds, whatever a server asks for


@dataclass(frozen=True)
class Policy:
    """How files are fetched.

    plain_http: also over http, where whoever is on the way can change the file. timeout: seconds
    without a byte. tries: transfers without progress before it is given up. pause: seconds before
    the second try, doubled each time. redirects: how many are followed. slowest, window: bytes
    per second, over so many seconds, below which a transfer counts as broken. patience: seconds for
    all headers of an answer: a server may send a byte of them now and then.
    """

    plain_http: bool = False
    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0
    redirects: int = 5
    slowest: float = 1000.0
    window: float = 60.0
    patience: float = 120.0


class Broken(Exception):
    """A transfer that broke off and may be resumed. wait: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0):
        """reason: a few words."""
        super().__init__(reason)
        self.wait = wait


class Stalled(Broken):
    """Nothing came of a read that still waits in its thread, so its response cannot be closed."""


def in_time(work: Callable[[], Value], seconds: float) -> Value:
    """What `work` returns or raises, if it does so in time; else `Stalled`, and it is left alone.

    For reads that wait for the end of a line: a timeout of the socket begins anew at every byte.
    """
    done: queue.SimpleQueue[tuple[Value | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        """Do the work; its result, or its error, goes into the queue."""
        try:
            done.put((work(), None))
        except BaseException as error:  # raised again below
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = done.get(timeout=seconds)
    except queue.Empty:
        raise Stalled(f"nothing whole for {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def check_address(url: str, policy: Policy) -> None:
    """TTDError unless `url` is https with a host, or http where that is allowed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise TTDError(f"{url[:200]!r}: not an address ({error})") from None
    if parts.scheme not in ("https", "http") or not host or not url.isprintable() or " " in url:
        raise TTDError(f"{url[:200]!r}: not an address that is fetched; https://HOST/FILE is")
    if parts.username is not None or parts.password is not None:
        raise TTDError(f"{host}: an address with a password in it; give one without")
    if parts.scheme == "http" and not policy.plain_http:
        raise TTDError(
            f"{url}: plain http, where whoever is on the way can change the file; "
            "add --allow-http if you accept that, or fetch it by hand"
        )


def open_link(url: str, headers: Mapping[str, str], policy: Policy) -> Response:
    """The answer to a request, of status 200 or 206, its body not read yet.

    Errors: `Broken` for what another try may mend; TTDError for the rest, and for addresses as
    `check_address`, also those that redirects lead to.
    """
    opener, first = _opener(), url
    for _ in range(policy.redirects + 1):
        check_address(url, policy)
        request = Request(url, headers=dict(headers))
        answer = in_time(partial(_asked, opener, request, policy), policy.patience)
        if not isinstance(answer, str):
            if answer.status in (200, 206):
                return answer
            answer.close()
            raise TTDError(f"{url}: the server answers {answer.status}, without a file")
        target = urljoin(url, answer)
        if url.startswith("https:") and not target.startswith("https:"):
            raise TTDError(f"{first}: leads from https to {target[:200]!r}, which is not followed")
        url = target
    raise TTDError(f"{first}: more than {policy.redirects} redirects; the link is broken")


def _opener() -> OpenerDirector:
    """http and https, through a proxy where the environment names one; no files, no ftp."""
    opener = OpenerDirector()
    handlers = (ProxyHandler, UnknownHandler, HTTPHandler, HTTPSHandler)
    for kind in (*handlers, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        opener.add_handler(kind())
    return opener


def _asked(opener: OpenerDirector, request: Request, policy: Policy) -> Response | str:
    """The response, or where it is said to be."""
    where = request.full_url
    try:
        return opener.open(request, timeout=policy.timeout)
    except HTTPError as error:
        place = error.headers.get("Location") or ""
        if error.code in MOVED and place:
            error.close()
            return str(place)
        raise _status(error, where) from None
    except URLError as error:
        raise _network(error.reason, where) from None
    except (OSError, http.client.HTTPException) as error:
        raise _network(error, where) from None
    except ValueError as error:  # a header or an address that http.client does not send
        raise TTDError(f"{where}: cannot be asked for ({error})") from None


def _status(error: HTTPError, url: str) -> Exception:
    """What a status other than success means."""
    code = error.code
    error.close()
    if code in BUSY:
        return Broken(f"the server answers {code}", _seconds(error.headers.get("Retry-After")))
    if code in SIGNED_IN:
        return TTDError(f"{url}: the server asks for a sign-in or a licence ({code})")
    if code in GONE:
        return TTDError(f"{url}: not there any more ({code}); the link has moved")
    if code == 416:
        return Broken(RANGE)
    return TTDError(f"{url}: the server answers {code}")


RANGE = "the server does not know this part of the file"


def _seconds(text: str | None) -> float:
    """`Retry-After` in seconds, at most a minute; 0 where it says nothing or a date."""
    if text is None or not text.strip().isdecimal():
        return 0.0
    return min(float(text.strip()[:9]), LONGEST_WAIT)


def _network(reason: object, url: str) -> Exception:
    """What lies below http."""
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        return TTDError(f"{url}: the certificate of {host} is not valid ({reason.verify_message})")
    if isinstance(reason, socket.gaierror):
        return Broken(f"{host} is not found; is there a network?")
    if isinstance(reason, TimeoutError):
        return Broken(f"{host} does not answer")
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return Broken(f"{host}: {' '.join(text.split())[:120]}")
