"""A web server that misbehaves as told, and a way to S3 that loses replies."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.support.httpserver import Server, running

_KEPT = ("etag", "last-modified", "content-range", "content-type")

Reply = Callable[[BaseHTTPRequestHandler], None]


def server_of(reply: Reply, port: int = 0) -> Server:
    """Return a server that answers every request with `reply`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    return Server(("127.0.0.1", port), Handler)


@contextmanager
def replying(reply: Reply, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Answer every request with `reply` for the life of the context; the value is the server's URL."""
    server = server_of(reply)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with running(server):
        yield server.url.replace("http:", "https:") if tls else server.url


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Send one reply; header names have `_` for `-`."""
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def status(code: int, body: bytes = b"") -> Reply:
    """Always this status."""
    return lambda handler: send(handler, code, body)


def never(_: BaseHTTPRequestHandler) -> bool:
    """Lose nothing."""
    return False


def through(
    upstream: str, lose: Callable[[BaseHTTPRequestHandler], bool] = never, *, ignoring: tuple[str, ...] = ()
) -> Reply:
    """Pass requests on to `upstream`; where `lose` says so, do it and then reply 500 instead of what it said.

    Headers named in `ignoring` stay behind, as if the server did not know them.
    """

    def reply(handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=60)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in ignoring}
        connection.request(handler.command, handler.path, body, headers)
        said = connection.getresponse()
        data = said.read()
        connection.close()
        if lose(handler):
            send(handler, 500)
        else:
            kept = {name: value for name, value in said.getheaders() if name.lower() in _KEPT}
            length = str(said.headers.get("Content-Length", len(data)))
            send(handler, said.status, data, **{"Content_Length": length, **kept})

    return reply
