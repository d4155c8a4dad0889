"""What a tree stands on: entries by path, from wherever.

Promise: whatever answers these four questions is a tree: `Tree.from_source`. A working directory through its index, a
file map in a store and a plain directory do; an archive will, by its file map (a pack is one already).
Not here: trees (`tree`), the sources themselves (`index`, `plain`, `memory`, `sapwood.open`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from sapwood._core.filemap import FileMap
    from sapwood._core.tree import State
    from sapwood.digests import TreeDigest

__all__ = ["Entry", "Source", "check_name", "joined", "shown"]


class Entry(Protocol):
    """What a source knows of one path. None: it does not know. Sizes are bytes, times nanoseconds since 1970."""

    @property
    def path(self) -> bytes:
        """In the source; the root's is empty."""
        ...

    @property
    def name(self) -> bytes: ...
    @property
    def kind(self) -> str:
        """`dir`, `reg`, `symlink`, `hardlink`, `char`, `block` or `fifo`."""
        ...

    @property
    def size(self) -> int:
        """Of a blob, of a symlink's target, of a directory's message (0 while its digest is None); else 0."""
        ...

    @property
    def mode(self) -> int:
        """Permission, set-id and sticky bits."""
        ...

    @property
    def uid(self) -> int | None: ...
    @property
    def gid(self) -> int | None: ...
    @property
    def mtime_ns(self) -> int | None: ...
    @property
    def links(self) -> int:
        """Names of the inode within the source, as far as it tells them."""
        ...

    @property
    def digest(self) -> str | None:
        """Of a blob, never None; of a directory, None when it has yet to be taken from the entries."""
        ...

    @property
    def target(self) -> bytes | None:
        """Of a symlink; of a hard link the path of its first name, which is none."""
        ...

    @property
    def device(self) -> tuple[int, int] | None: ...
    @property
    def xattrs(self) -> dict[bytes, bytes]: ...


E = TypeVar("E", bound=Entry)


class Source(Protocol[E]):
    """Entries by path. Paths are bytes without `/` at either end, the root's is empty.

    An answer, once given, holds: what can no longer be given is an error, never something else.
    """

    @property
    def digest(self) -> TreeDigest | None:
        """The tree digest if it is known."""
        ...

    def hashed(self) -> TreeDigest | None:
        """Take the tree digest if the source has a way of its own for it; None: let it be taken from the entries."""
        ...

    def lookup(self, path: bytes) -> E | None:
        """Return the entry at a path, not following symlinks; None for what is no path."""
        ...

    def list(self, path: bytes) -> Sequence[E]:
        """Return the entries of a directory, sorted by the bytes of their names."""
        ...

    def read(self, entry: E) -> Iterator[bytes]:
        """Yield the content of a regular file; the end is not reached unless all of it was right."""
        ...

    def listing(self, path: bytes) -> State | FileMap | None:
        """Return what of the core can compare the directory at `path` with another by itself, if there is such."""
        ...


AnySource = Source[Any]


def joined(path: bytes, name: bytes) -> bytes:
    """Return the path of `name` in the directory at `path`."""
    return path + b"/" + name if path else name


def shown(path: bytes) -> str:
    """Return a path for a message."""
    return path.decode(errors="backslashreplace") or "."


def check_name(name: bytes) -> None:
    """Let nothing pass that could name another place than an entry of its directory.

    Raises:
        InvalidInputError: `bad-name`.
    """
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        from sapwood.errors import InvalidInputError

        raise InvalidInputError(
            f"{name!r} cannot be a name in a tree", kind="bad-name", hint="neither empty, . or .., nor with / or NUL"
        )
