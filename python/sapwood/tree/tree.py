"""The lazy tree: directories that unfold where they are looked at.

A `Tree` is one directory: names -> items, and an item is a `Tree` or a `Leaf`. It is made of a function that unfolds it
(gives its items), so a tree from a source, a filtered one and one in memory are the same thing. A tree that holds no
items is a *stub*: it asks anew each time it is looked at, so walking ten million entries keeps none; `expand` returns
one that holds them. Sources answer by path, and the same for ever. Digests come from the source where it knows them;
else they are taken when asked for, from the leaves up, each directory once: a tree keeps those of its directories whose
digest its source does not know. What changes a tree (`filter`, `modify`, ...) makes another, whose changed directories
have no digest until asked; untouched ones keep theirs, so comparing prunes them. No way down is recursive: a tree may
be deeper than Python's stack.

Invariant: a tree never changes; what its source can no longer give (a file that was edited since) is an error, never
other bytes. Not here: what makes trees of trees (`derive`), comparing (`diff`), sources (`source`).
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from sapwood._core.directory import directory_digest
from sapwood.digests import TreeDigest
from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.tree.leaf import Leaf
from sapwood.tree.source import AnySource, Entry, joined, shown

if TYPE_CHECKING:
    from sapwood.tree.check import Mismatch
    from sapwood.tree.diff import Change

__all__ = ["Item", "Tree"]


class Tree:
    """An immutable directory and all below it; nothing is loaded before it is looked at.

    Made by `Tree.of`, `read_plain`, `Index.tree`, `open_tree`, `OpenStore.tree`, `Tree.from_source`. Paths are bytes,
    relative to the tree; `/` at either end does not count, `b""` is the tree itself.
    """

    __slots__ = ("_digest", "_entry", "_held", "_kept", "_like", "_origin", "_size", "_unfold")

    kind: ClassVar[str] = "dir"
    links: ClassVar[int] = 1
    target: ClassVar[None] = None
    device: ClassVar[None] = None

    def __init__(
        self,
        unfold: Callable[[], dict[bytes, Item]] | None = None,
        *,
        held: dict[bytes, Item] | None = None,
        origin: tuple[AnySource, bytes] | None = None,
        entry: Entry | None = None,
        like: Tree | None = None,
        digest: tuple[TreeDigest | None, int | None] = (None, None),
    ) -> None:
        """Not for callers: see the class.

        Of `unfold`, `held` and `origin` one says where the items come from, sorted by name; of `entry` and `like` one
        where mode, owner and times do.
        """
        self._unfold = unfold
        self._held = held
        self._origin = origin
        self._entry = entry
        # Not a chain: a tree that was modified a thousand times is like its first.
        self._like: Tree | None = (like._like or like) if like is not None else None
        self._digest, self._size = digest
        self._kept: dict[bytes, Tree] = {}

    @staticmethod
    def of(items: Mapping[bytes, Tree | Leaf | bytes | Mapping[bytes, object]]) -> Tree:
        """Return a tree in memory: names -> content of a file, mapping of a directory, `Leaf` or `Tree`.

        Raises:
            InvalidInputError: `bad-name`; `bad-item`: something else.
        """
        from sapwood.tree.memory import make_tree

        return make_tree(items)

    @staticmethod
    def from_source(source: AnySource) -> Tree:
        """Return all that a source has."""
        return Tree(origin=(source, b""), digest=(source.digest, None))

    def __repr__(self) -> str:
        return f"<Tree {self._digest[:19] if self._digest else 'without digest'}>"

    # What it has.

    @property
    def items(self) -> Mapping[bytes, Item]:
        """Names -> items of this directory, sorted by the bytes of the names."""
        return MappingProxyType(self._look())

    def list_immediate(self) -> builtins.list[tuple[bytes, Item]]:
        """Return name and item of each entry of this directory, sorted by the bytes of the names.

        Raises:
            SapwoodError: what its source says.
        """
        return list(self._look().items())

    def list(self) -> Iterator[tuple[bytes, Item]]:
        """Yield path and item of everything below, parents first; stubs unfold as they are reached, and stay stubs."""
        todo = [(b"", iter(self._look().items()))]
        while todo:
            folder, entries = todo[-1]
            for name, item in entries:
                path = joined(folder, name)
                yield path, item
                if isinstance(item, Tree):
                    todo.append((path, iter(item._look().items())))
                    break
            else:
                todo.pop()

    def find(self, path: bytes) -> Item | None:
        """Return the item at `path`, or None; symlinks are not followed."""
        tree, rest = self, path.strip(b"/")
        while rest:
            if tree._origin is not None:
                source, top = tree._origin
                entry = source.lookup(joined(top, rest))
                return None if entry is None else item_from(source, entry)
            name, _, rest = rest.partition(b"/")
            item = tree._look().get(name)
            if not rest or not isinstance(item, Tree):
                return None if rest else item
            tree = item
        return tree

    def entries(self) -> Sequence[Entry] | None:
        """Return what the source lists in this directory, sorted by name; None of one that no source has."""
        if self._held is not None or self._origin is None:
            return None
        source, path = self._origin
        return source.list(path)

    def find_file(self, path: bytes) -> Leaf | None:
        """Return the regular file at `path` (of a hard link its first name), or None."""
        return file_of(self.find(path))

    def find_tree(self, path: bytes) -> Tree | None:
        """Return the directory at `path`, or None."""
        item = self.find(path)
        return item if isinstance(item, Tree) else None

    def lookup(self, path: bytes) -> Item:
        """Return the item at `path`, as `find`.

        Raises:
            NotFoundError: `path-missing`.
        """
        item = self.find(path)
        if item is None:
            raise NotFoundError(f"no {shown(path)} in the tree", kind="path-missing", path=path)
        return item

    def read_blob(self, path: bytes) -> Iterator[bytes]:
        """Return an iterator over the content of the file at `path`, in pieces.

        From a store each is proved before it is given; of a working file above 1 MiB the whole is proved with the last.

        Raises:
            NotFoundError: `path-missing`; or what it is stored in is missing.
            InvalidInputError: `not-a-file`: symlinks are not followed.
            CorruptError: the stored bytes are damaged.
            UnavailableError: `file-changing`: a working file is no longer what the tree says.
        """
        item = self.lookup(path).resolved()
        if isinstance(item, Tree) or item.kind != "reg":
            raise InvalidInputError(f"{shown(path)} is no file but a {item.kind}", kind="not-a-file", path=path)
        return item.read()

    # What it is.

    @property
    def digest(self) -> TreeDigest:
        """The tree digest: that of its REAPI Directory message; taken now if it is not known, see the module."""
        if self.settle() is None:
            _take_digest(self)
        assert self._digest is not None
        return self._digest

    @property
    def size(self) -> int:
        """Bytes of its Directory message."""
        if self._size is None:
            # An entry that was given before the digest was known does not know the size either.
            entry = self.entry if self.settle() is not None else None
            if entry is not None and entry.digest == self._digest:
                self._size = entry.size
            else:
                _take_digest(self)
        assert self._size is not None
        return self._size

    @property
    def known_digest(self) -> TreeDigest | None:
        """The digest if no work is needed to tell it."""
        return self._digest

    def settle(self) -> TreeDigest | None:
        """Return the digest if it is known or its source has a way of its own to take it."""
        if self._digest is None and self._origin is not None and not self._origin[1]:
            self._digest = self._origin[0].hashed()
        return self._digest

    @property
    def origin(self) -> tuple[AnySource, bytes] | None:
        """The source that unfolds it, and its path there; None for one that was made of items or of other trees."""
        return self._origin

    @property
    def is_stub(self) -> bool:
        """Whether its items are asked for when it is looked at, rather than held."""
        return self._held is None

    @property
    def entry(self) -> Entry | None:
        """What its source knows of the directory itself; None for one in memory."""
        if self._like is not None:
            return self._like.entry
        if self._entry is None and self._origin is not None:
            source, path = self._origin
            self._entry = source.lookup(path)
        return self._entry

    @property
    def mode(self) -> int:
        """Permission, set-id and sticky bits; in memory 0o755."""
        return 0o755 if self.entry is None else self.entry.mode

    @property
    def uid(self) -> int | None:
        return None if self.entry is None else self.entry.uid

    @property
    def gid(self) -> int | None:
        return None if self.entry is None else self.entry.gid

    @property
    def mtime_ns(self) -> int | None:
        return None if self.entry is None else self.entry.mtime_ns

    @property
    def xattrs(self) -> dict[bytes, bytes]:
        return {} if self.entry is None else self.entry.xattrs

    def resolved(self) -> Tree:
        """Return itself: only leaves can be other names of something."""
        return self

    # Trees of it.

    def expand(self) -> Tree:
        """Return the same tree without stubs: it holds every item, and never asks its source for one again."""
        return self.expand_update(lambda _, tree: tree)

    def expand_update(self, update: Callable[[bytes, Tree], Tree]) -> Tree:
        """Return it without stubs, each directory as `update(path, directory)` has it, those below already updated."""
        from sapwood.tree.derive import expanded

        return expanded(self, update)

    def expand_path(self, path: bytes) -> Tree:
        """Return the same tree without stubs on the way to `path`, the directory there included, as far as it goes."""
        from sapwood.tree.derive import expanded_path

        return expanded_path(self, path)

    def filter(self, predicate: Callable[[bytes, Item], bool]) -> Tree:
        """Return what `predicate(path, item)` keeps; it is not asked about what lies in a directory that it drops.

        Lazy: asked when the result unfolds, each time, so it must always answer the same. Directories it drops are
        not looked into; a lazy index hashes all outdated files of a directory that is looked at, dropped ones too.
        """
        from sapwood.tree.derive import filtered

        return filtered(self, predicate)

    def restrict(self, guide: Tree) -> Tree:
        """Return what `guide` has too, at the same path: a directory where it has one, else anything else. Lazy."""
        from sapwood.tree.derive import restricted

        return restricted(self, guide)

    def overlay(self, top: Tree) -> Tree:
        """Return this tree with `top` over it: the items of both, directories merged, else those of `top`. Lazy."""
        from sapwood.tree.derive import overlaid

        return overlaid(self, top)

    def modify(self, path: bytes, item: Tree | Leaf | bytes | Mapping[bytes, object] | None) -> Tree:
        """Return a tree that has `item`, as `Tree.of` takes it, at `path`, or nothing there if it is None.

        Directories that are missing on the way are made. Removing what is not there changes nothing.

        Raises:
            InvalidInputError: `not-a-directory`: something else is in the way, or would be the root; `bad-name`.
        """
        from sapwood.tree.derive import modified

        return modified(self, path, item)

    # Two of them, and whether it is right.

    def zip_trees(self, other: Tree) -> Iterator[tuple[bytes, Item | None, Item | None]]:
        """Yield each path below either tree with the items that the two have there, parents first, by name."""
        from sapwood.tree.diff import zipped

        return zipped(self, other)

    def zip_files(self, other: Tree) -> Iterator[tuple[bytes, Leaf | None, Leaf | None]]:
        """Yield each path where either tree has a regular file, and the files there, as `find_file` gives them."""
        for path, mine, theirs in self.zip_trees(other):
            a, b = file_of(mine), file_of(theirs)
            if a is not None or b is not None:
                yield path, a, b

    def diff(self, other: Tree) -> Iterator[Change]:
        """Yield what `other` has added, removed and changed: names, contents, executable bits, symlinks, kinds.

        Directories of equal digest are not looked into, so the cost is that of what differs; nor are therefore devices
        and FIFOs in them, which no tree digest knows. Owners and times do not count.
        """
        from sapwood.tree.diff import changes

        return changes(self, other)

    def check(self) -> Iterator[Mismatch]:
        """Read everything and yield every mismatch: content that differs, is damaged, gone or unreadable; directories.

        Raises:
            UnavailableError: the store does not answer, which is no mismatch.
        """
        from sapwood.tree.check import mismatches

        return mismatches(self)

    def _look(self) -> dict[bytes, Item]:
        """The items, to be read only. Directories without a digest are the same ones each time: they keep theirs."""
        if self._held is not None:
            return self._held
        items = self._asked()
        for name, item in items.items():
            if isinstance(item, Tree) and item._digest is None:
                items[name] = self._kept.setdefault(name, item)
        return items

    def _asked(self) -> dict[bytes, Item]:
        if self._origin is not None:
            source, path = self._origin
            return {entry.name: item_from(source, entry) for entry in source.list(path)}
        assert self._unfold is not None
        return self._unfold()


Item = Tree | Leaf


def item_from(source: AnySource, entry: Entry) -> Item:
    """Return an entry of a source as an item."""
    if entry.kind != "dir":
        return Leaf(source, entry)
    digest = entry.digest
    known = (None, None) if digest is None else (TreeDigest(digest), entry.size)
    return Tree(origin=(source, entry.path), entry=entry, digest=known)


def file_of(item: Item | None) -> Leaf | None:
    """Return the regular file that an item is, of a hard link its first name; None if it is something else."""
    if item is None or isinstance(item, Tree):
        return None
    leaf = item.resolved()
    return leaf if leaf.kind == "reg" else None


def digest_of_items(items: Mapping[bytes, Item]) -> tuple[TreeDigest, int]:
    """Return digest and size of the message of a directory that has these items."""
    files: list[tuple[bytes, str, int, bool]] = []
    directories: list[tuple[bytes, str, int]] = []
    symlinks: list[tuple[bytes, bytes]] = []
    for name, item in items.items():
        if isinstance(item, Tree):
            directories.append((name, item.digest, item.size))
            continue
        leaf = item.resolved()
        if leaf.kind == "reg" and leaf.digest is not None:
            files.append((name, leaf.digest, leaf.size, leaf.executable))
        elif leaf.kind == "symlink" and leaf.target is not None:
            symlinks.append((name, leaf.target))
    digest, size = directory_digest(files, directories, symlinks)
    return TreeDigest(digest), size


def _take_digest(tree: Tree) -> None:
    """Take the digests of a tree and of all directories below it that have none, from the leaves up."""

    def without(items: dict[bytes, Item]) -> Iterator[Tree]:
        return (item for item in items.values() if isinstance(item, Tree) and item._digest is None)

    items = tree._look()
    spine = [(tree, items, without(items))]
    while spine:
        tree, items, todo = spine[-1]
        for below in todo:
            inside = below._look()
            spine.append((below, inside, without(inside)))
            break
        else:
            spine.pop()
            tree._digest, tree._size = digest_of_items(items)
