"""Two trees in step.

Promise: what two trees have in common costs nothing: directories of equal digest are not looked into, and where both
sources are the core's it lists only what differs. A digest that is not known is not taken for this: going down tells
the same, at the same price.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sapwood._core import directory as core
from sapwood.tree.leaf import Leaf
from sapwood.tree.source import joined
from sapwood.tree.tree import Item, Tree, item_from

__all__ = ["Change", "Difference", "changes", "differences", "zipped"]


class Change(NamedTuple):
    """One path that differs: `kind` is `added`, `removed` or `changed`."""

    kind: str
    path: bytes


class Difference(NamedTuple):
    """One path that differs, with what the two trees have there."""

    kind: str
    path: bytes
    old: Item | None
    new: Item | None


def changes(a: Tree, b: Tree) -> Iterator[Change]:
    """See `Tree.diff`."""
    for kind, path, _, _ in differences(a, b):
        yield Change(kind, path)


def differences(a: Tree, b: Tree) -> Iterator[Difference]:
    """Yield what `Tree.diff` does, with the items."""
    a.settle(), b.settle()
    todo = [(b"", a, b)]
    while todo:
        folder, mine, theirs = todo.pop()
        if _is_known_equal(mine, theirs):
            continue
        below = []
        for name, old, new in _pairs(mine, theirs):
            path = joined(folder, name)
            if isinstance(old, Tree) and isinstance(new, Tree):
                below.append((path, old, new))
            elif isinstance(old, Leaf) and isinstance(new, Leaf):
                if not old.is_same(new):
                    yield Difference("changed", path, old, new)
            else:
                if old is not None:
                    yield from (Difference("removed", at, item, None) for at, item in _all(path, old))
                if new is not None:
                    yield from (Difference("added", at, None, item) for at, item in _all(path, new))
        todo.extend(reversed(below))


def zipped(a: Tree, b: Tree) -> Iterator[tuple[bytes, Item | None, Item | None]]:
    """See `Tree.zip_trees`."""
    todo = [(b"", _merged(a, b))]
    while todo:
        folder, pairs = todo[-1]
        for name, mine, theirs in pairs:
            path = joined(folder, name)
            yield path, mine, theirs
            if isinstance(mine, Tree) or isinstance(theirs, Tree):
                todo.append((path, _merged(mine, theirs)))
                break
        else:
            todo.pop()


def _is_known_equal(a: Tree, b: Tree) -> bool:
    return a is b or (a.known_digest is not None and a.known_digest == b.known_digest)


def _pairs(a: Tree, b: Tree) -> Iterator[tuple[bytes, Item | None, Item | None]]:
    """Names with what stands there: at least those that differ."""
    if a.origin is not None and b.origin is not None:
        (source_a, path_a), (source_b, path_b) = a.origin, b.origin
        here, there = source_a.listing(path_a), source_b.listing(path_b)
        if here is not None and there is not None:
            for mine, theirs in core.differing(here, path_a, there, path_b):
                old = None if mine is None else item_from(source_a, mine)
                new = None if theirs is None else item_from(source_b, theirs)
                yield (mine or theirs).name, old, new  # type: ignore[union-attr] # one of the two is there
            return
    yield from _merged(a, b)


def _merged(a: Item | None, b: Item | None) -> Iterator[tuple[bytes, Item | None, Item | None]]:
    """All names of two directories, in order; what is no directory has none."""
    mine = a.items if isinstance(a, Tree) else {}
    theirs = b.items if isinstance(b, Tree) else {}
    for name in sorted(mine.keys() | theirs.keys()):
        yield name, mine.get(name), theirs.get(name)


def _all(path: bytes, item: Item) -> Iterator[tuple[bytes, Item]]:
    """An item and everything below it."""
    yield path, item
    if isinstance(item, Tree):
        yield from ((joined(path, name), below) for name, below in item.list())
