"""Leaves: what a tree has that is no directory.

Invariant: a leaf knows its source, wherever it has been put: its content comes from there, proved against its digest.
Not here: directories (`tree`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sapwood.errors import CorruptError, InvalidInputError
from sapwood.tree.source import AnySource, Entry, shown

__all__ = ["Leaf"]


class Leaf:
    """A file, symlink, hard link, device or FIFO. Immutable; its path is where it was found, not part of it."""

    __slots__ = ("_source", "entry")

    def __init__(self, source: AnySource, entry: Entry) -> None:
        self._source = source
        # Any: more than `Entry` is known to whoever knows the source (of a store: `chunks`).
        self.entry: Any = entry

    @staticmethod
    def file(content: bytes, *, executable: bool = False, mtime_ns: int | None = None) -> Leaf:
        """Return a file in memory."""
        from sapwood.tree.memory import make_file

        return make_file(content, executable=executable, mtime_ns=mtime_ns)

    @staticmethod
    def symlink(target: bytes, *, mtime_ns: int | None = None) -> Leaf:
        """Return a symlink in memory.

        Raises:
            InvalidInputError: `bad-target`: empty, or with a NUL.
        """
        from sapwood.tree.memory import make_symlink

        return make_symlink(target, mtime_ns=mtime_ns)

    def __repr__(self) -> str:
        return f"<Leaf {self.kind} {(self.digest or '')[:19]}>"

    @property
    def kind(self) -> str:
        """`reg`, `symlink`, `hardlink`, `char`, `block` or `fifo`."""
        return str(self.entry.kind)

    @property
    def size(self) -> int:
        """Bytes of a file or of a symlink's target, else 0."""
        return int(self.entry.size)

    @property
    def mode(self) -> int:
        """Permission, set-id and sticky bits."""
        return int(self.entry.mode)

    @property
    def executable(self) -> bool:
        """Whether it is a file that its owner may execute: what a tree digest knows of its mode."""
        return self.kind == "reg" and bool(self.mode & 0o100)

    @property
    def uid(self) -> int | None:
        found: int | None = self.entry.uid
        return found

    @property
    def gid(self) -> int | None:
        found: int | None = self.entry.gid
        return found

    @property
    def mtime_ns(self) -> int | None:
        found: int | None = self.entry.mtime_ns
        return found

    @property
    def links(self) -> int:
        """Names of it in its source, as far as that tells them."""
        return int(self.entry.links)

    @property
    def digest(self) -> str | None:
        """Of a file; taken now if its source has not yet."""
        found: str | None = self.entry.digest
        return found

    @property
    def target(self) -> bytes | None:
        """Of a symlink; of a hard link the path of its first name in its source."""
        found: bytes | None = self.entry.target
        return found

    @property
    def device(self) -> tuple[int, int] | None:
        found: tuple[int, int] | None = self.entry.device
        return found

    @property
    def xattrs(self) -> dict[bytes, bytes]:
        return dict(self.entry.xattrs)

    @property
    def inode(self) -> tuple[int, bytes] | None:
        """What the leaves of one inode have in common; None for what has no other name."""
        if self.kind == "hardlink":
            return id(self._source), self.entry.target
        return (id(self._source), self.entry.path) if self.links > 1 else None

    def resolved(self) -> Leaf:
        """Return the first name of a hard link, of anything else itself.

        Raises:
            CorruptError: `damaged`: its first name is not there, or is none.
        """
        if self.kind != "hardlink":
            return self
        first = self._source.lookup(self.entry.target)
        if first is None or first.kind in ("dir", "hardlink"):
            raise CorruptError(f"{shown(self.entry.path)} is a hard link to nothing", kind="damaged")
        return Leaf(self._source, first)

    def read(self) -> Iterator[bytes]:
        """Return an iterator over the content of a file, in pieces; errors as `Tree.read_blob`."""
        leaf = self.resolved()
        if leaf.kind != "reg":
            raise InvalidInputError(
                f"{shown(self.entry.path)} is no file but a {leaf.kind}", kind="not-a-file", path=self.entry.path
            )
        return leaf._source.read(leaf.entry)

    def is_same(self, other: Leaf) -> bool:
        """Say whether a tree digest could not tell the two apart, nor could their device numbers."""
        mine, theirs = self.resolved(), other.resolved()
        if (mine.kind, mine.target, mine.device, mine.executable) != (
            theirs.kind, theirs.target, theirs.device, theirs.executable,
        ):  # fmt: skip
            return False
        # The digest of a plain file has yet to be taken: not if its size tells.
        return mine.kind != "reg" or (mine.size == theirs.size and mine.digest == theirs.digest)
