"""A blob on its way into a registry, in pieces: its digest is known at its end.

Promise: what breaks off goes on where the registry says that it has it; where it does not know that any more, who
writes is told to begin anew. Memory is that of a piece. Not here: what is there already, documents (`upload`). Source:
OCI distribution-spec 1.1, "Pushing a blob in chunks".
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from types import TracebackType
from urllib.parse import quote

from sapwood.errors import CorruptError, SapwoodError, UnavailableError
from sapwood.image.layout import require_hash
from sapwood.image.manifest import Described
from sapwood.image.registry import Registry
from sapwood.image.wire import Reply

__all__ = ["RemoteUpload", "require_same"]

# Bytes of a request: a piece is kept here until the registry has it.
_PIECE = 16 << 20
_MOST_OF_A_PIECE = 128 << 20
_OCTETS = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_SIZE = re.compile(r"[0-9]{1,12}")


class RemoteUpload:
    """As `upload.Upload`; what is not yet a whole piece is kept here."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._hash = hashlib.sha256()
        self._size = 0
        self._kept = bytearray()
        self._piece = _PIECE
        # Where it goes on, if it was begun; how much the registry has.
        self._where = ""
        self._there = 0

    def __enter__(self) -> RemoteUpload:
        self._registry.keep_trying(self._begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        where, self._where = self._where, ""
        if where and not isinstance(error, (KeyboardInterrupt, UnavailableError)):
            with contextlib.suppress(SapwoodError):
                self._registry.send("DELETE", where, good=(204, 404))

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._size += len(data)
        left = memoryview(data)
        while left:
            taken = left[: self._piece - len(self._kept)]
            self._kept += taken
            left = left[len(taken) :]
            if len(self._kept) >= self._piece:
                self._send_kept()

    def so_far(self) -> Described:
        return Described(f"sha256:{self._hash.hexdigest()}", self._size)

    def finish(self, expected: str | None = None) -> Described:
        described = self.so_far()
        require_hash(self._registry.url, described.digest, expected)
        if self._there:
            self._send_kept()
        body = bytes(self._kept)

        def attempt() -> Reply | None:
            where = f"{self._where}{'&' if '?' in self._where else '?'}digest={quote(described.digest)}"
            try:
                return self._registry.send("PUT", where, _OCTETS, body, good=(201, 204))
            except UnavailableError as error:
                if self._is_there(described):  # and the reply was lost
                    return None
                if error.status in (400, 404, 416):
                    raise self._lost(error) from error
                raise

        reply = self._registry.keep_trying(attempt)
        self._where = ""
        if reply is not None:
            require_same(self._registry.url, reply, described.digest)
        return described

    def _is_there(self, blob: Described) -> bool:
        with contextlib.suppress(SapwoodError):
            reply = self._registry.send("HEAD", f"blobs/{blob.digest}", good=(200, 404))
            return reply.status == 200
        return False

    def _begin(self) -> None:
        reply = self._registry.send("POST", "blobs/uploads/", good=(202,))
        self._where = self._registry.location(reply, "blobs/uploads/")
        least = _SIZE.fullmatch(reply.headers.get("OCI-Chunk-Min-Length", ""))
        if least:
            self._piece = min(max(self._piece, int(least[0])), _MOST_OF_A_PIECE)

    def _send_kept(self) -> None:
        """Send all that is kept; what of it the registry has when an attempt breaks is not sent again."""
        body, begin = memoryview(self._kept), self._there
        self._kept = bytearray()
        end = begin + len(body)
        is_broken = False

        def attempt() -> None:
            nonlocal is_broken
            if is_broken:
                self._look(begin, end)
            while self._there < end:
                is_broken = True
                self._patch(body[self._there - begin :])
                is_broken = False

        self._registry.keep_trying(attempt)

    def _patch(self, data: memoryview) -> None:
        headers = _OCTETS | {"Content-Range": f"{self._there}-{self._there + len(data) - 1}"}
        try:
            reply = self._registry.send("PATCH", self._where, headers, data, good=(202, 204))
        except UnavailableError as error:
            if error.status in (400, 404, 416):
                raise self._lost(error) from error
            raise
        end = self._there + len(data)
        self._note(reply, self._there, end, end)

    def _look(self, begin: int, end: int) -> None:
        """Ask how much is there."""
        try:
            reply = self._registry.send("GET", self._where, good=(204, 200))
        except UnavailableError as error:
            if error.status in (400, 404, 405, 416):
                raise self._lost(error) from error
            raise
        # What says no range has nothing.
        self._note(reply, begin, end, 0)

    def _note(self, reply: Reply, begin: int, end: int, unsaid: int) -> None:
        if reply.headers.get("Location"):
            self._where = self._registry.location(reply, self._where)
        told = _RANGE.fullmatch(reply.headers.get("Range", ""))
        there = unsaid if told is None else int(told[1]) + 1
        # `0-0` is what several say of nothing.
        there = 0 if there == 1 and begin == 0 else there
        if not begin <= there <= end:
            raise self._lost(f"it has {there} bytes of it, and was given {begin} to {end}")
        self._there = there

    def _lost(self, why: object) -> UnavailableError:
        self._where = ""
        return UnavailableError(
            f"{self._registry.url}: the upload cannot go on: {why}",
            kind="upload-lost",
            hint="run it again: what is there is not sent again",
            may_pass=False,
            status=0,
        )


def require_same(url: str, reply: Reply, digest: str) -> None:
    """Raise if a registry says that it has something else than it was given.

    Raises:
        CorruptError: `image-corrupt`.
    """
    told = reply.headers.get("Docker-Content-Digest", digest)
    if told.startswith("sha256:") and told != digest:
        raise CorruptError(f"{url}: it was given {digest[:19]}, and says that it has {told[:19]}", kind="image-corrupt")
