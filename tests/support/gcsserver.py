"""A stub of Google Cloud Storage: what obstore asks of its XML API, with generations, in memory.

No server that can be installed speaks this API, so this is ours, and proves only that we ask what Google's pages say is
asked: PUT with `x-goog-if-generation-match` (0: must not exist), replies with `x-goog-generation`, GET and HEAD with
ranges, DELETE (404 when absent), listings of a page at a time. Google's consistency is not shown by it.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.httpserver import Server, running

_PAGE = 1000
_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


@dataclass(frozen=True)
class _Object:
    data: bytes
    generation: int
    modified: float

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class GcsServer(Server):
    """The service; `buckets` are all there are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: dict[str, dict[str, _Object]] = {}
        self.guard = threading.Lock()
        self.generation = 1_700_000_000_000_000

    def put(self, bucket: dict[str, _Object], name: str, data: bytes, match: str | None) -> _Object | None:
        """Store an object if its generation is `match`; None if it is another."""
        with self.guard:
            found = bucket.get(name)
            if match is not None and int(match) != (found.generation if found else 0):
                return None
            self.generation += 1
            bucket[name] = _Object(data, self.generation, time.time())
            return bucket[name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server: GcsServer

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if (bucket := self._bucket()) is not None:
            stored = self.server.put(bucket, self._name(), data, self.headers.get("x-goog-if-generation-match"))
            if stored is None:
                self._refuse(412, "PreconditionFailed")
            else:
                self._reply(200, **_about(stored))

    def do_GET(self) -> None:
        if (bucket := self._bucket()) is None:
            return
        if not self._name():
            self._list(bucket)
        elif (found := bucket.get(self._name())) is None:
            self._refuse(404, "NoSuchKey")
        else:
            self._read(found)

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        if (bucket := self._bucket()) is not None:
            with self.server.guard:
                gone = bucket.pop(self._name(), None)
            if gone is None:
                self._refuse(404, "NoSuchKey")
            else:
                self._reply(204)

    def _read(self, found: _Object) -> None:
        asked = _RANGE.match(self.headers.get("Range", ""))
        if asked is None:
            self._reply(200, found.data, **_about(found))
            return
        begin = int(asked.group(1))
        end = min(int(asked.group(2)) + 1, len(found.data)) if asked.group(2) else len(found.data)
        if begin >= len(found.data):
            self._refuse(416, "InvalidRange")
            return
        where = f"bytes {begin}-{end - 1}/{len(found.data)}"
        self._reply(206, found.data[begin:end], Content_Range=where, **_about(found))

    def _list(self, bucket: dict[str, _Object]) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        prefix = query.get("prefix", "")
        after = max(query.get("start-after", ""), query.get("continuation-token", ""))
        with self.server.guard:
            names = sorted(name for name in bucket if name.startswith(prefix) and name > after)
            page = [(name, bucket[name]) for name in names[: int(query.get("max-keys", _PAGE))]]
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><Generation>{found.generation}</Generation>"
            f"<LastModified>{datetime.fromtimestamp(found.modified, UTC).isoformat().replace('+00:00', 'Z')}"
            f"</LastModified><ETag>{escape(found.tag)}</ETag><Size>{len(found.data)}</Size></Contents>"
            for name, found in page
        )
        more = f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>" if len(page) < len(names) else ""
        self._reply(200, f"<?xml version='1.0'?><ListBucketResult>{entries}{more}</ListBucketResult>".encode())

    def _bucket(self) -> dict[str, _Object] | None:
        found = self.server.buckets.get(unquote(urlsplit(self.path).path).lstrip("/").partition("/")[0])
        if found is None:
            self._refuse(404, "NoSuchBucket")
        return found

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _refuse(self, status: int, code: str) -> None:
        self._reply(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())

    def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing: requests are no news."""


def _about(found: _Object) -> dict[str, str]:
    modified = email.utils.formatdate(found.modified, usegmt=True)
    return {"ETag": found.tag, "x_goog_generation": str(found.generation), "Last_Modified": modified}


@contextmanager
def serving() -> Iterator[GcsServer]:
    """Run the stub for the life of the context."""
    with running(GcsServer()) as server:
        yield server
