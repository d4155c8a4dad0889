"""A working directory as a source of a tree: entries from its state when it was hashed, contents from the disk.

Invariant: what is read is what the state says; a file that was edited since is an error, never other bytes.
Not here: a tree that is looked at as it is expanded (`live`), the index itself (`index`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from sapwood._core import tree as core
from sapwood._core.filemap import Entry
from sapwood.digests import TreeDigest
from sapwood.tree.disk import read_proved

__all__ = ["WorkingDirectory"]


class WorkingDirectory:
    """A working directory as a source: entries from the state, contents from the disk, proved against it."""

    def __init__(self, root: str, state: core.State, digest: TreeDigest) -> None:
        self._root = root
        self._state = state
        self._digest = digest

    @property
    def digest(self) -> TreeDigest:
        return self._digest

    def hashed(self) -> TreeDigest:
        return self._digest

    def lookup(self, path: bytes) -> Entry | None:
        return self._state.lookup(path)

    def list(self, path: bytes) -> list[Entry]:
        return self._state.list(path)

    def read(self, entry: Entry) -> Iterator[bytes]:
        return read_proved(os.fsencode(self._root), entry.path, digest=entry.digest)

    def listing(self, path: bytes) -> core.State:  # noqa: ARG002
        return self._state
