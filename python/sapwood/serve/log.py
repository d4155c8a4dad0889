"""Logs: files to which small blobs and results of actions are appended, many at a time, and made durable together.

Invariant: a record counts when all of it is there and its key or its sum proves it; what follows the first that does
not was never acknowledged. Bytes: docs/format.md, "Staging". Not here: which log, and what becomes of it (`staging`).
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from sapwood.errors import UnavailableError

__all__ = ["ACTION", "BLOB", "HEAD", "Descriptor", "Log", "disk_error", "record"]

BLOB = 1
ACTION = 2

_MAGIC = b"SWLG"
_HEADER = struct.Struct("<4sB3xI32sI")
HEAD = _HEADER.size
"""Bytes before the content of a record."""

# No message that a record comes in is larger.
_LARGEST = 16 << 20


def record(kind: int, key: bytes, data: bytes) -> bytes:
    """Return the record of a blob, `key` the 32 bytes of its hash, or of the result of the action of that hash."""
    return _HEADER.pack(_MAGIC, kind, len(data), key, _sum(kind, key, data)) + data


def _sum(kind: int, key: bytes, data: bytes) -> int:
    # Of a blob its key proves the content.
    return zlib.crc32(key + struct.pack("<BI", kind, len(data)) + (data if kind == ACTION else b""))


def disk_error(error: OSError, path: object) -> UnavailableError:
    """Return what to raise when the disk under the staging area refuses."""
    if error.errno in (28, 122):
        return UnavailableError(
            f"the disk of {path} is full",
            kind="disk-full",
            hint="free some of it, or name another place by --staging",
        )
    return UnavailableError(f"cannot write {path}: {error.strerror}", kind="io")


class Descriptor:
    """An open file, closed when nobody has it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class Log:
    """One log. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = Descriptor(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.end = os.fstat(self.file.fd).st_size
        self.names: list[str] = []
        """Of the blobs in it: hex digits."""
        self._synced = 0
        self._appending = threading.Lock()
        self._syncing = threading.Lock()

    def open(self) -> Descriptor:
        """Return a file to read it from."""
        return self.file

    def append(self, data: bytes) -> int:
        """Append records, and return where they begin; `sync` makes them durable.

        Raises:
            UnavailableError: `disk-full`, `io`; nothing was appended.
        """
        with self._appending:
            begin = at = self.end
            view = memoryview(data)
            try:
                while view:
                    wrote = os.pwrite(self.file.fd, view, at)
                    view, at = view[wrote:], at + wrote
            except OSError as error:
                os.truncate(self.file.fd, begin)
                raise disk_error(error, self.path) from error
            self.end = at
        return begin

    def sync(self, end: int) -> None:
        """Return when all up to `end` is durable. Who comes while another waits for the disk is served by the next.

        Raises:
            UnavailableError: `disk-full`, `io`.
        """
        with self._syncing:
            if self._synced >= end:
                return
            reached = self.end
            try:
                os.fdatasync(self.file.fd)
            except OSError as error:
                raise disk_error(error, self.path) from error
            self._synced = reached

    def records(self) -> Iterator[tuple[int, bytes, int, bytes]]:
        """Yield kind, key, place and content of each sound record up to the first that is none."""
        at, size = 0, self.end
        while at + HEAD <= size:
            magic, kind, length, key, told = _HEADER.unpack(os.pread(self.file.fd, HEAD, at))
            begin = at + HEAD
            if magic != _MAGIC or length > _LARGEST or begin + length > size:
                return
            data = os.pread(self.file.fd, length, begin)
            if len(data) != length or told != _sum(kind, key, data):
                return
            if kind == BLOB and hashlib.sha256(data).digest() != key:
                return
            at = begin + length
            yield kind, key, begin, data

    def cut(self, end: int) -> None:
        """Let the log end at `end`, behind its last sound record."""
        if end < self.end:
            os.truncate(self.file.fd, end)
        self.end = self._synced = end
