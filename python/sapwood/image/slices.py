"""Bytes of this machine that are a blob: a file, or a part of one.

Invariant: a file that changes under its readers is an error, never other bytes; nothing outside its part is read.
"""

from __future__ import annotations

import os

from sapwood.archive.opening import open_file
from sapwood.errors import ConflictError, UnavailableError
from sapwood.store import faults
from sapwood.store.requests import Requests

__all__ = ["Slice"]

_TAIL = 64 * 1024


class Slice:
    """Bytes `offset` to `offset + size` of a file; as `store.beside.Ranges`. Safe to use from several threads."""

    def __init__(self, path: str, offset: int = 0, size: int | None = None, *, is_kept: bool = False) -> None:
        """`size` None means to the file's end; one that `is_kept` by us is replaced, never written to.

        Errors as `open_file`.
        """
        self.url = self.place = path
        self.version = ""
        self._is_kept = is_kept
        self.requests = Requests()
        self._file = open_file(path)
        self._state = self._look()
        self._offset = offset
        self.size = max(0, self._state[0] - offset) if size is None else size

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def _look(self) -> tuple[int, int]:
        stat = os.fstat(self._file)
        return stat.st_size, stat.st_mtime_ns

    @property
    def tail(self) -> bytes:
        begin = max(0, self.size - _TAIL)
        return self.read([(begin, self.size - begin)])[0]

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length), in the order asked.

        Raises:
            ConflictError: `archive-changed`.
            CorruptError: `object-short`.
            UnavailableError, DeniedError: it cannot be read.
        """
        self.requests.count("get", len(ranges))
        out = []
        for offset, length in ranges:
            faults.check_range(self.url, "", offset, length)
            if offset + length > self.size:
                raise faults.too_short(self.url, "it", self.size, offset, length)
            out.append(self.at(self._offset + offset, length))
        self.check()
        return out

    def at(self, offset: int, length: int) -> bytes:
        """Return bytes of the file, wherever the blob begins in it; errors as `read`."""
        try:
            data = os.pread(self._file, length, offset)
            while len(data) < length and (more := os.pread(self._file, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise UnavailableError(f"cannot read {self.url}: {error.strerror}", kind="io") from error
        if len(data) < length:
            self.check()
            raise faults.too_short(self.url, "it", self._state[0], offset, length)
        return data

    def check(self) -> None:
        """Raise if the file was changed since it was opened."""
        if not self._is_kept and self._look() != self._state:
            raise ConflictError(
                f"{self.url}: it was changed since it was opened", kind="archive-changed", hint="open it again"
            )

    def reconnect(self) -> None:
        """Do nothing: there are no connections."""
