"""A registry in this process that is written to, and breaks as told.

Promise: without being told, it takes uploads as the distribution protocol says, and refuses what does not hash to its
name, is out of order, or names a blob that it has not.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import threading
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from tests.support.badserver import send
from tests.support.fakeregistry import FakeRegistry, Handler
from tests.support.images import digest

__all__ = ["WritableRegistry", "break_off"]

_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/(?:u(\d+))?")
_RANGE = re.compile(r"(\d+)-(\d+)")


class WritableRegistry(FakeRegistry):
    """Its repositories share their blobs; `others` has those that may only be mounted."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[int, bytearray] = {}
        self._numbers = itertools.count()
        self.others: dict[tuple[str, str], bytes] = {}
        """By repository and digest."""
        self.taken = 0
        """Bytes of blobs that came."""
        self._guard = threading.Lock()
        self.has_referrers = False
        self.elsewhere = ""
        """Where uploads are to go, if not here."""
        self.on_patch: Callable[[WritableRegistry, Handler, bytearray], bool] = lambda *_: False
        """Takes a piece in its own way, and says so."""

    def give(self, handler: Handler, path: str) -> None:
        found = _UPLOADS.fullmatch(path)
        if found is not None:
            self._upload(handler, int(found[2]) if found[2] else None)
        elif "/referrers/" in path:
            self._referrers(handler, path.rpartition("/")[2])
        elif handler.command == "PUT" and "/manifests/" in path:
            self._take_manifest(handler, path.rpartition("/")[2])
        elif handler.command == "DELETE" and "/manifests/" in path:
            send(handler, 202 if self.manifests.pop(path.rpartition("/")[2], None) else 404)
        else:
            super().give(handler, path)

    def _upload(self, handler: Handler, number: int | None) -> None:
        query = {key: value[0] for key, value in parse_qs(urlsplit(handler.path).query).items()}
        if number is None:
            data = self.others.get((query.get("from", ""), query.get("mount", "")))
            if data is not None:
                self.blobs[query["mount"]] = data
                send(handler, 201)
                return
            number = next(self._numbers)
            self.uploads[number] = bytearray()
            send(handler, 202, Location=self._location(number))
            return
        there = self.uploads.get(number)
        if there is None:
            send(handler, 404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        elif handler.command == "GET":
            send(handler, 204, Location=self._location(number), Range=f"0-{max(0, len(there) - 1)}")
        elif handler.command == "DELETE":
            del self.uploads[number]
            send(handler, 204)
        elif handler.command == "PATCH":
            asked = _RANGE.fullmatch(handler.headers.get("Content-Range", ""))
            if asked is not None and int(asked[1]) != len(there):
                _body(handler)
                send(handler, 416)
            elif not self.on_patch(self, handler, there):
                self._add(there, _body(handler))
                send(handler, 202, Location=self._location(number), Range=f"0-{len(there) - 1}")
        else:
            self._add(there, _body(handler))
            if digest(bytes(there)) != query["digest"]:
                send(handler, 400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
                return
            self.blobs[query["digest"]] = bytes(self.uploads.pop(number))
            send(handler, 201, Docker_Content_Digest=query["digest"])

    def _location(self, number: int) -> str:
        return f"{self.elsewhere}/v2/some/name/blobs/uploads/u{number}?state={len(self.uploads[number])}"

    def _add(self, there: bytearray, data: bytes) -> None:
        with self._guard:
            self.taken += len(data)
        there += data

    def _take_manifest(self, handler: Handler, name: str) -> None:
        data = _body(handler)
        said = json.loads(data)
        named = [
            layer["digest"] for layer in [*said.get("layers", []), *([said["config"]] if "config" in said else [])]
        ]
        if any(one not in self.blobs for one in named):
            send(handler, 400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')
            return
        for one in {name, digest(data)}:
            self.manifests[one] = (handler.headers["Content-Type"], data)
        more = {"OCI_Subject": said["subject"]["digest"]} if self.has_referrers and "subject" in said else {}
        send(handler, 201, Docker_Content_Digest=digest(data), **more)

    def _referrers(self, handler: Handler, name: str) -> None:
        if not self.has_referrers:
            send(handler, 404)
            return
        entries = []
        for key, (kind, data) in self.manifests.copy().items():
            said = json.loads(data)
            if key.startswith("sha256:") and said.get("subject", {}).get("digest") == name:
                entry = {"mediaType": kind, "digest": key, "size": len(data), "artifactType": said["artifactType"]}
                entries.append(entry | {"annotations": said.get("annotations", {})})
        send(handler, 200, json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def break_off(handler: Handler, there: bytearray, count: int) -> None:
    """Take so many bytes of what is sent, and break the connection."""
    there += handler.rfile.read(count)
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)


def _body(handler: Handler) -> bytes:
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
