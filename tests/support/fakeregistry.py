"""A registry in this process that does as told: it asks for tokens, redirects, lies, is busy, or dies in the middle.

Promise: without being told, it reads as the distribution protocol says; every request is noted. Not here: uploads
(`fakeuploads`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.support.badserver import send, server_of
from tests.support.httpserver import running
from tests.support.images import Image, digest

__all__ = ["FakeRegistry", "registry"]

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_PATH = re.compile(r"/v2/(.+)/(manifests|blobs)/([^/]+)")
Handler = BaseHTTPRequestHandler


class FakeRegistry:
    """What it has, and how it behaves."""

    def __init__(self) -> None:
        self.host = ""
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        """Method, path with query, and authorization of each request."""
        self.settle: Callable[[], None] = lambda: None
        """Waits until all that was asked for is done: who asked may have been killed since."""
        self.login: tuple[str, str] | None = None
        self.identity = ""
        self.scheme = ""
        """`basic` or `bearer`: what must be shown."""
        self.tokens: set[str] = set()
        """Those that are good; taken away, they have ended."""
        self.realm = ""
        self.scopes = ["repository:some/name:pull"]
        """What tokens must be asked for."""
        self.first: Callable[[Handler], bool] = lambda _: False
        """Answers a request in its own way, and says so."""

    def add(self, image: Image, *names: str) -> str:
        """Take an image by its digest, and by tags."""
        self.blobs |= image.blobs()
        return self.add_document(image.kinds["manifest"], image.manifest, *names)

    def add_document(self, kind: str, data: bytes, *names: str) -> str:
        for name in (digest(data), *names):
            self.manifests[name] = (kind, data)
        return digest(data)

    def blob_requests(self) -> int:
        return sum("/blobs/" in path for _, path, _ in self.asked)

    def answer(self, handler: Handler) -> None:
        shown = handler.headers.get("Authorization", "")
        self.asked.append((handler.command, handler.path, shown))
        if self.first(handler):
            return
        parts = urlsplit(handler.path)
        if parts.path == "/token":
            self._token(handler, shown, parts.query)
        elif self._is_let_in(shown):
            self.give(handler, parts.path)
        elif self.scheme == "basic":
            send(handler, 401, b"{}", WWW_Authenticate='Basic realm="it"')
        else:
            realm = self.realm or f"http://{self.host}/token"
            wants = f'Bearer realm="{realm}",service="it",scope="repository:some/name:pull"'
            send(handler, 401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', WWW_Authenticate=wants)

    def _is_let_in(self, shown: str) -> bool:
        if self.scheme == "bearer":
            return shown.removeprefix("Bearer ") in self.tokens
        return not self.scheme or shown == self._basic()

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(":".join(self.login or ()).encode()).decode()

    def _token(self, handler: Handler, shown: str, query: str) -> None:
        said = parse_qs(query)
        if handler.command == "POST":
            said = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
            good = said["grant_type"] == ["refresh_token"] and said["refresh_token"] == [self.identity]
        else:
            good = self.login is None or shown == self._basic()
        if not good or said["scope"] != self.scopes:
            send(handler, 401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
            return
        token = f"token-{len(self.asked)}"
        self.tokens.add(token)
        send(handler, 200, json.dumps({"token": token, "expires_in": 300}).encode())

    def give(self, handler: Handler, path: str) -> None:
        """Answer one who is let in."""
        found = _PATH.fullmatch(path)
        if found is None:
            send(handler, 404)
        elif found[2] == "manifests":
            kind, data = self.manifests.get(found[3], ("", b""))
            if not data:
                send(handler, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            else:
                send(handler, 200, data, Content_Type=kind)
        else:
            self.give_blob(handler, found[3])

    def give_blob(self, handler: Handler, name: str) -> None:
        """Give a blob, or the range of it that is asked for."""
        data = self.blobs.get(name)
        if data is None:
            send(handler, 404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}')
            return
        asked = _RANGE.fullmatch(handler.headers.get("Range", ""))
        if asked is None:
            send(handler, 200, data)
            return
        begin, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
        if begin >= len(data):
            send(handler, 416)
            return
        send(handler, 206, data[begin:end], Content_Range=f"bytes {begin}-{end - 1}/{len(data)}")


@contextmanager
def registry(made: FakeRegistry | None = None, *, port: int = 0) -> Iterator[FakeRegistry]:
    """Serve one, of the usual kind if none is given, for the life of the context."""
    made = made or FakeRegistry()
    with running(server_of(made.answer, port)) as server:
        made.host, made.settle = server.url.removeprefix("http://"), server.settle
        yield made
