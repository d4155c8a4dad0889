"""The lazy tree: entries by path, from whatever source.

Invariant: a tree never changes; what its source can no longer give (a file that was edited since) is an error, never
other bytes. Not here: sources over a store (`sapwood.open`) or a working directory (`index`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from sapwood._core.filemap import Entry
from sapwood.digests import TreeDigest
from sapwood.errors import InvalidInputError, NotFoundError

__all__ = ["Change", "Entry", "Source", "Tree"]


class Change(NamedTuple):
    """One path that differs: `kind` is `added`, `removed` or `changed`."""

    kind: str
    path: bytes


class Source(Protocol):
    """Where a tree's entries come from. Paths are bytes, the root's is empty."""

    @property
    def digest(self) -> TreeDigest: ...
    def lookup(self, path: bytes) -> Entry | None:
        """Return the entry at a path, not following symlinks."""
        ...

    def list(self, path: bytes) -> list[Entry]:
        """Return the entries of a directory, sorted by name."""
        ...

    def read(self, entry: Entry) -> Iterator[bytes]:
        """Yield the content of a regular file; the end is not reached unless all of it was right."""
        ...


class Tree:
    """An immutable file tree; nothing is loaded before it is looked at."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"<Tree {self.digest[:19]}>"

    @property
    def digest(self) -> TreeDigest:
        """The tree digest: that of the root's REAPI Directory message."""
        return self._source.digest

    def find(self, path: bytes) -> Entry | None:
        """Return the entry at `path`, the root at `b""`, or None; symlinks are not followed."""
        return self._source.lookup(path.strip(b"/"))

    def lookup(self, path: bytes) -> Entry:
        """Return the entry at `path`, as `find`.

        Raises:
            NotFoundError: `path-missing`.
        """
        if entry := self.find(path):
            return entry
        raise NotFoundError(f"no {shown(path)} in the tree", kind="path-missing", path=path)

    def list(self, path: bytes = b"") -> list[Entry]:
        """Return the entries of the directory at `path`, sorted by the bytes of their names.

        Raises:
            NotFoundError: `path-missing`.
            InvalidInputError: `not-a-directory`.
        """
        entry = self.lookup(path)
        if entry.kind != "dir":
            raise InvalidInputError(f"{shown(path)} is not a directory", kind="not-a-directory", path=path)
        return self._source.list(entry.path)

    def walk(self, path: bytes = b"") -> Iterator[Entry]:
        """Yield the entry at `path` and all below it, parents first; errors as `lookup`."""
        todo = [self.lookup(path)]
        while todo:
            entry = todo.pop()
            yield entry
            if entry.kind == "dir":
                todo.extend(reversed(self._source.list(entry.path)))

    def read_blob(self, path: bytes) -> Iterator[bytes]:
        """Return an iterator over the content of the file at `path`, in pieces.

        From a store each is proved before it is given; of a working file above 1 MiB the whole is proved with the last.

        Raises:
            NotFoundError: `path-missing`; or what it is stored in is missing.
            InvalidInputError: `not-a-file`: symlinks are not followed.
            CorruptError: the stored bytes are damaged.
            UnavailableError: `file-changing`: a working file is no longer what the tree says.
        """
        entry = self._resolved(self.lookup(path))
        if entry.kind != "reg":
            raise InvalidInputError(f"{shown(path)} is no file but a {entry.kind}", kind="not-a-file", path=path)
        return self._source.read(entry)

    def diff(self, other: Tree) -> Iterator[Change]:
        """Yield what `other` has added, removed and changed: names, contents, executable bits, symlinks, kinds.

        Directories of equal digest are not looked into, so the cost is that of what differs. Owners and times do not
        count.
        """
        todo = [b""] if self.digest != other.digest else []
        while todo:
            folder = todo.pop()
            mine = {entry.name: entry for entry in self._source.list(folder)}
            theirs = {entry.name: entry for entry in other._source.list(folder)}
            below = []
            for name in sorted(mine.keys() | theirs.keys()):
                a, b = mine.get(name), theirs.get(name)
                if a is None and b is not None:
                    yield from (Change("added", entry.path) for entry in other.walk(b.path))
                elif b is None and a is not None:
                    yield from (Change("removed", entry.path) for entry in self.walk(a.path))
                elif a is not None and b is not None:
                    if a.kind == b.kind == "dir":
                        if a.digest != b.digest:
                            below.append(a.path)
                    elif "dir" in (a.kind, b.kind):
                        yield from (Change("removed", entry.path) for entry in self.walk(a.path))
                        yield from (Change("added", entry.path) for entry in other.walk(b.path))
                    elif _content(self._resolved(a)) != _content(other._resolved(b)):
                        yield Change("changed", b.path)
            todo.extend(reversed(below))

    def _resolved(self, entry: Entry) -> Entry:
        """The first name of a hard link, of anything else itself."""
        if entry.kind == "hardlink" and entry.target is not None:
            return self.lookup(entry.target)
        return entry


def _content(entry: Entry) -> tuple[object, ...]:
    return entry.kind, entry.digest, entry.target, entry.device, entry.kind == "reg" and bool(entry.mode & 0o100)


def shown(path: bytes) -> str:
    """A path for a message."""
    return path.decode(errors="backslashreplace") or "."
