"""An HTTP proxy in front of a real server that spoils requests by their number.

Promise: requests are numbered from 1 in the order in which they arrive; what `spoil` does not name passes as it is.
A spoilt request reached the server or did not, as the fault says, so both sides of a lost reply are tried. One whose
client has given it up does not reach the server any more.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.support.httpserver import Server, running


@dataclass
class Passing:
    """A request on its way: ask the server with `ask`, reply with `send`."""

    handler: BaseHTTPRequestHandler
    body: bytes
    upstream: str
    proxy: Proxy

    def ask(self) -> tuple[int, dict[str, str], bytes]:
        """Make the request and return status, headers and body of the reply."""
        with self.proxy.asking(self.handler.connection):
            return self._ask()

    def _ask(self) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(self.handler.command, self.handler.path, self.body, dict(self.handler.headers.items()))
            said = connection.getresponse()
            data = said.read()
            kept = ("etag", "last-modified", "content-type", "content-range", "content-length", "accept-ranges")
            headers = {name: value for name, value in said.getheaders() if name.lower() in kept}
            if self.handler.command != "HEAD":
                headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            return said.status, headers, data
        finally:
            connection.close()

    def send(self, status: int, headers: dict[str, str], data: bytes, *, length: int | None = None) -> None:
        """Reply; `length` is what is said of the body, if that is not the truth."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.handler.send_header("Content-Length", str(len(data) if length is None else length))
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def cut(self) -> None:
        """Close the connection."""
        self.handler.wfile.flush()
        self.handler.close_connection = True
        self.handler.connection.shutdown(socket.SHUT_RDWR)


Fault = Callable[[Passing], None]
Spoil = Callable[[int], Fault | None]
"""What is to be done to the request of a number, if anything."""


def _says(status: int) -> Fault:
    return lambda passing: passing.send(status, {}, b"<Error><Code>Told</Code><Message>told to</Message></Error>")


def _unheard(passing: Passing) -> None:
    passing.ask()
    passing.send(500, {}, b"")


def _cut_before(passing: Passing) -> None:
    passing.cut()


def _cut_after(passing: Passing) -> None:
    passing.ask()
    passing.cut()


def _cut_within(passing: Passing) -> None:
    status, headers, data = passing.ask()
    passing.send(status, headers, data[: len(data) // 2], length=len(data) + 1)
    passing.cut()


def _twice(passing: Passing) -> None:
    passing.ask()
    passing.send(*passing.ask())


def _flipped(passing: Passing) -> None:
    status, headers, data = passing.ask()
    passing.send(status, headers, data[: len(data) // 2] + bytes(byte ^ 1 for byte in data[len(data) // 2 :]))


def _short(passing: Passing) -> None:
    status, headers, data = passing.ask()
    passing.send(status, headers, data[:-1])


def _other_range(passing: Passing) -> None:
    status, headers, data = passing.ask()
    wrong = {name: value.replace("bytes ", "bytes 1") for name, value in headers.items() if name == "Content-Range"}
    passing.send(status, {**headers, **wrong}, data)


def _dripping(passing: Passing) -> None:
    status, headers, data = passing.ask()
    passing.send(status, headers, b"", length=len(data) or 1)
    for byte in data or b"0":
        passing.handler.wfile.flush()
        time.sleep(1)  # the fault itself: a byte a second, until the client has had enough
        passing.handler.wfile.write(bytes([byte]))


FAULTS: dict[str, Fault] = {
    "503": _says(503),
    "403": _says(403),
    "412": _says(412),
    "done, and 500": _unheard,
    "cut before": _cut_before,
    "done, and cut": _cut_after,
    "the reply is cut": _cut_within,
    "done twice": _twice,
    "corrupted": _flipped,
    "one byte short": _short,
    "another range": _other_range,
    "a byte a second": _dripping,
}


@dataclass
class Proxy:
    """Where it listens, what it has seen, and what it is to spoil."""

    url: str
    seen: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    """Of clients, of all connections that a request came by."""
    spoil: Spoil = lambda _: None
    settle: Callable[[], None] = lambda: None
    """Waits until all that clients asked for which have ended is seen, and done."""
    _asked: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def begin(self, spoil: Spoil) -> None:
        """Count from 1 again, and spoil what `spoil` gives a fault for; what the server is being asked for ends first.

        So nothing that a client has given up before takes effect later.
        """
        with self._changed:
            assert self._changed.wait_for(lambda: not self._asked, 120)
            self.seen.clear()
            self.spoil = spoil

    @contextmanager
    def asking(self, client: socket.socket) -> Iterator[None]:
        """While the server is asked; not for a client that has gone."""
        with self._changed:
            if _has_gone(client):
                raise ConnectionAbortedError("its client has given it up")
            self._asked += 1
        try:
            yield
        finally:
            with self._changed:
                self._asked -= 1
                self._changed.notify_all()


def _has_gone(client: socket.socket) -> bool:
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextmanager
def proxying(upstream: str) -> Iterator[Proxy]:
    """Stand in front of the server at `upstream` for the life of the context."""
    proxy = Proxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with proxy._changed:
                proxy.seen.append(f"{self.command} {self.path}")
                proxy.ports.add(self.client_address[1])
                fault = proxy.spoil(len(proxy.seen))
            passing = Passing(self, body, urlsplit(upstream).netloc, proxy)
            if fault:
                fault(passing)
            else:
                passing.send(*passing.ask())

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # the client has gone, or was cut off

    with running(Server(("127.0.0.1", 0), Handler)) as server:
        proxy.url, proxy.settle = server.url, server.settle
        yield proxy
