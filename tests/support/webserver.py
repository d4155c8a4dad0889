"""A small web server over a directory: what an HTTP store looks like from outside.

Promise: GET and HEAD of regular files below one directory, whole or as one byte range (206, or 416 past the end),
over connections that stay open; nothing outside the directory is served, nothing is ever written.
Not here: listings, uploads, TLS; a plain web server has none of them either.

    python -m tests.support.webserver DIRECTORY [PORT]

prints `listening on http://127.0.0.1:PORT` once it accepts connections, and serves until it is ended.
"""

from __future__ import annotations

import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from pathlib import Path

from tests.support.httpserver import Server, running

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A reply is headers and body: held back by Nagle's algorithm, the second would cost 40 ms a request.
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server: WebServer

    def do_HEAD(self) -> None:
        self._serve(with_body=False)

    def do_GET(self) -> None:
        self._serve(with_body=True)

    def _serve(self, *, with_body: bool) -> None:
        path = self._file()
        try:
            opened = path.open("rb") if path else None
        except FileNotFoundError:  # it was there just now
            opened = None
        if opened is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with opened as file:
            # By its name it may be another by now.
            seen = os.fstat(file.fileno())
            size = seen.st_size
            span = self._span(size)
            if span is None:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
                return
            begin, end, partial = span
            self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
            if partial:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - begin))
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Last-Modified", self.date_time_string(seen.st_mtime))
            self.end_headers()
            if with_body:
                self._copy(file, begin, end)

    def _copy(self, file: BufferedReader, begin: int, end: int) -> None:
        file.seek(begin)
        remaining = end - begin
        while remaining:
            piece = file.read(min(remaining, 256 * 1024))
            if not piece:  # the file shrank: a short reply, which the client must notice
                self.close_connection = True
                return
            self.wfile.write(piece)
            remaining -= len(piece)

    def _file(self) -> Path | None:
        """Return the regular file that the request names, or None when there is none below the root."""
        name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
        if "\0" in name:
            return None
        path = (self.server.root / name).resolve()
        return path if path.is_relative_to(self.server.root) and path.is_file() else None

    def _span(self, size: int) -> tuple[int, int, bool] | None:
        """Return (begin, end, is it a part) of what is asked for, or None when it cannot be satisfied."""
        asked = _ONE_RANGE.match(self.headers.get("Range", ""))
        if asked is None or asked.group(0) == "bytes=-":
            return 0, size, False
        first, last = asked.groups()
        if first:
            begin, end = int(first), min(int(last) + 1, size) if last else size
        else:
            begin, end = max(0, size - int(last)), size
        return (begin, end, True) if begin < end else None

    def _refuse(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing: requests are no news."""


class WebServer(Server):
    """Serves `root`, whose address `url` is."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.root = root.resolve(strict=True)
        super().__init__(("127.0.0.1", port), _Handler)


@contextmanager
def serving(root: Path, port: int = 0) -> Iterator[str]:
    """Serve `root` from a thread of this process for the life of the context; the value is its URL."""
    with running(WebServer(root, port)) as server:
        yield server.url


def main(arguments: list[str]) -> int:
    """Serve until ended."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m tests.support.webserver DIRECTORY [PORT]\n")
        return 2
    with WebServer(Path(arguments[0]), int(arguments[1]) if len(arguments) == 2 else 0) as server:
        sys.stdout.write(f"listening on {server.url}\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
