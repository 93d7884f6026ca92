"""A small HTTP server on this machine that serves files well, or in every way that is wrong."""

import contextlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class File:
    """A file that is served. cuts: bytes after which the first, second, ... answer breaks off."""

    data: bytes
    tag: str | None = '"1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None  # that is stated, where it is another

    def __call__(self, handler):
        begin = self._begin(handler)
        rest = self.data[begin:]
        handler.send_response(206 if begin else 200)
        if begin:
            last = len(self.data) - 1
            handler.send_header("Content-Range", f"bytes {begin}-{last}/{len(self.data)}")
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.send_header("Content-Type", self.kind)
        handler.send_header(
            "Content-Length", str(len(rest) if self.length is None else self.length)
        )
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)
        handler.close_connection = True

    def _begin(self, handler):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        current = handler.headers.get("If-Range") in (None, self.tag)
        return int(asked[1]) if asked and self.ranges and current else 0


class Server:
    """`routes`: path -> what answers (a handler of http.server is passed), or (status, headers)."""

    def __init__(self):
        self.routes, self.asked = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.answer(self, "POST")

            def do_HEAD(self):
                outer.answer(self, "HEAD")

            def do_GET(self):
                if outer.answer(self, "GET"):
                    return
                outer.asked.append((self.path, dict(self.headers)))
                answer = outer.routes.get(self.path, (404, {}))
                with contextlib.suppress(ConnectionError):
                    if callable(answer):
                        answer(self)
                        return
                    self.send_response(answer[0])
                    for name, value in answer[1].items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *words):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def answer(self, handler, method):
        """For those who serve more than `routes`: True where the request was answered."""
        return False

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._http.shutdown()
        self._http.server_close()

    def ranges(self):
        """The `Range` of every request so far."""
        return [headers.get("Range") for _, headers in self.asked]
