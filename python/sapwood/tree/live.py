"""A working directory as a tree that looks only where somebody looks.

Promise: each directory is what it was when it was first looked at; what is out of date in it is hashed then, and
brought up to date in the index, and nothing else is. Asking for the digest looks at everything.
Not here: the look itself (the core), hashing a directory whole (`index`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from sapwood._core.filemap import Entry
from sapwood._core.index import Live
from sapwood.digests import TreeDigest
from sapwood.errors import InternalError, NotFoundError, UnavailableError
from sapwood.tree.disk import read_proved
from sapwood.tree.source import shown

__all__ = ["LiveDirectory"]


class LiveDirectory:
    """The source of such a tree."""

    def __init__(
        self, root: str | os.PathLike[str], live: Live, progress: Callable[[int, int, int, int], None] | None = None
    ) -> None:
        self._root = os.fsencode(root)
        self._live = live
        self._progress = progress
        self._listed: dict[bytes, dict[bytes, Entry]] = {}
        self._digest: TreeDigest | None = None

    @property
    def digest(self) -> TreeDigest | None:
        return self._digest

    def hashed(self) -> TreeDigest:
        """Look at everything there is.

        Raises:
            UnavailableError: `file-changing`: a directory is not what it was when it was looked at.
        """
        if self._digest is None:
            found = self._live.digest(self._progress)
            if found is None:
                raise InternalError("a tree that was hashed has no digest", kind="internal")
            for path, listed in self._listed.items():
                now = self._live.recorded(path)
                if now is None or not _are_same(listed.values(), now):
                    raise UnavailableError(
                        f"{shown(path)} changed since it was looked at",
                        kind="file-changing",
                        hint="read the index again",
                        path=path,
                    )
            self._listed.clear()
            self._digest = TreeDigest(found[0])
        return self._digest

    def lookup(self, path: bytes) -> Entry | None:
        if not path:
            return self._live.root()
        above, _, name = path.rpartition(b"/")
        try:
            return self._folder(above).get(name)
        except NotFoundError:
            return None

    def list(self, path: bytes) -> Sequence[Entry]:
        return [*self._folder(path).values()]

    def read(self, entry: Entry) -> Iterator[bytes]:
        return read_proved(self._root, entry.path, digest=entry.digest)

    def listing(self, path: bytes) -> None:  # noqa: ARG002
        return None

    def _folder(self, path: bytes) -> dict[bytes, Entry]:
        entries = self._listed.get(path)
        if entries is None:
            found = self._live.list(path, self._progress) if self._digest is None else self._live.recorded(path)
            if found is None:
                raise NotFoundError(f"{shown(path)} is gone", kind="path-missing", path=path)
            entries = self._listed[path] = {entry.name: entry for entry in found}
        return entries


def _are_same(old: Iterable[Entry], new: Iterable[Entry]) -> bool:
    """Whether two listings of one directory tell the same; a digest that was not known then tells nothing."""
    return [*map(_told, old)] == [*map(_told, new)] and all(
        a.digest is None or a.digest == b.digest for a, b in zip(old, new, strict=True)
    )


def _told(entry: Entry) -> tuple[object, ...]:
    return entry.name, entry.kind, entry.mode, entry.target, entry.device
