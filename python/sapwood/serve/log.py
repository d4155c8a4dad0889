"""Logs: files to which small blobs and results of actions are appended, many at a time, and made durable together.

Invariant: what `sync` has returned for survives power loss. Not here: which log, and what becomes of it (`staging`);
what is in a record, and which are sound (core). Bytes: docs/format.md, "Staging".
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from sapwood.errors import UnavailableError

__all__ = ["ACTION", "BLOB", "HEAD", "Descriptor", "Log", "disk_error"]

BLOB = 1
ACTION = 2

HEAD = 48
"""Bytes before the content of a record."""


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

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.file = Descriptor(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.end = os.fstat(self.file.fd).st_size
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

    def cut(self, end: int) -> None:
        """Let the log end at `end`, behind its last sound record."""
        if end < self.end:
            os.truncate(self.file.fd, end)
        self.end = self._synced = end
