"""Trees in memory.

Promise: what `Tree.of` makes is a tree like any other: it has a digest, can be compared, written, put into another.
Owners and times are unknown unless given; modes are 0o644, of executables and directories 0o755, of symlinks 0o777.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from sapwood.digests import TreeDigest
from sapwood.errors import InvalidInputError
from sapwood.tree.leaf import Leaf
from sapwood.tree.source import check_name
from sapwood.tree.tree import Item, Tree

__all__ = ["item_of", "make_file", "make_symlink", "make_tree"]


class _Entry:
    """A file or symlink that stands in no directory: its path is empty."""

    __slots__ = ("_digest", "content", "kind", "mode", "mtime_ns", "target")

    path = name = b""
    uid = gid = device = None
    links = 1

    def __init__(self, kind: str, content: bytes, target: bytes | None, mode: int, mtime_ns: int | None) -> None:
        self.kind = kind
        self.content = content
        self.target = target
        self.mode = mode
        self.mtime_ns = mtime_ns
        self._digest: str | None = None

    @property
    def size(self) -> int:
        return len(self.content if self.target is None else self.target)

    @property
    def digest(self) -> str | None:
        if self._digest is None and self.kind == "reg":
            import hashlib

            self._digest = f"sha256:{hashlib.sha256(self.content).hexdigest()}"
        return self._digest

    @property
    def xattrs(self) -> dict[bytes, bytes]:
        return {}


class _Memory:
    """The source of leaves in memory: an entry has its content with it, and no path leads to it."""

    digest: TreeDigest | None = None

    def hashed(self) -> None:
        return None

    def lookup(self, path: bytes) -> _Entry | None:  # noqa: ARG002
        return None

    def list(self, path: bytes) -> Sequence[_Entry]:  # noqa: ARG002
        return []

    def read(self, entry: _Entry) -> Iterator[bytes]:
        if entry.content:
            yield entry.content

    def listing(self, path: bytes) -> None:  # noqa: ARG002
        return None


_MEMORY = _Memory()


def make_file(content: bytes, *, executable: bool = False, mtime_ns: int | None = None) -> Leaf:
    """See `Leaf.file`."""
    return Leaf(_MEMORY, _Entry("reg", bytes(content), None, 0o755 if executable else 0o644, mtime_ns))


def make_symlink(target: bytes, *, mtime_ns: int | None = None) -> Leaf:
    """See `Leaf.symlink`."""
    if not target or b"\0" in target:
        raise InvalidInputError(f"{target!r} cannot be a symlink's target", kind="bad-target")
    return Leaf(_MEMORY, _Entry("symlink", b"", bytes(target), 0o777, mtime_ns))


def make_tree(items: Mapping[bytes, object]) -> Tree:
    """See `Tree.of`."""
    root: dict[bytes, Item] = {}
    todo: list[tuple[Mapping[bytes, object], dict[bytes, Item]]] = [(items, root)]
    while todo:
        given, held = todo.pop()
        for name in given:
            if not isinstance(name, bytes):
                raise InvalidInputError(f"{name!r} is not bytes, as names are", kind="bad-name")
            check_name(name)
        for name, value in sorted(given.items()):
            if isinstance(value, Mapping):
                below: dict[bytes, Item] = {}
                held[name] = Tree(held=below)
                todo.append((cast("Mapping[bytes, object]", value), below))
            else:
                held[name] = item_of(value)
    return Tree(held=root)


def item_of(value: object) -> Item:
    """Return what `Tree.of` takes as an item.

    Raises:
        InvalidInputError: `bad-item`, `bad-name`.
    """
    if isinstance(value, (Tree, Leaf)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return make_file(bytes(value))
    if isinstance(value, Mapping):
        return make_tree(value)
    raise InvalidInputError(
        f"{type(value).__name__} cannot be in a tree", kind="bad-item", hint="bytes, a mapping, a Leaf or a Tree"
    )
