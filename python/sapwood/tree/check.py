"""Is a tree what it says it is?

Promise: everything is read, one mismatch hides no other, and what is reported names what was expected and what was
found. Not here: repairing (a store: push again; an index: `sapwood index verify`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sapwood.errors import CorruptError, DeniedError, FormatError, NotFoundError, SapwoodError, UnavailableError
from sapwood.tree.leaf import Leaf
from sapwood.tree.source import joined
from sapwood.tree.tree import Item, Tree, digest_of_items

__all__ = ["Mismatch", "mismatches"]


class Mismatch(NamedTuple):
    """What is wrong at `path`: the digest the tree tells, the one of what is there, and why there is none if so."""

    path: bytes
    expected: str | None
    found: str | None
    why: str


def mismatches(tree: Tree) -> Iterator[Mismatch]:
    """See `Tree.check`."""
    todo = [(b"", tree)]
    while todo:
        path, folder = todo.pop()
        wrong: list[Mismatch] = []
        # What the source says: a digest taken from the entries cannot differ from them.
        expected = folder.known_digest
        items: dict[bytes, Item] = {}
        with _noted(wrong, path, expected):
            items = dict(folder.items)
            if expected is not None and (found := digest_of_items(items)[0]) != expected:
                wrong.append(Mismatch(path, expected, found, "its entries are others"))
        yield from wrong
        below = []
        for name, item in items.items():
            if isinstance(item, Tree):
                below.append((joined(path, name), item))
            else:
                yield from _checked(joined(path, name), item)
        todo.extend(reversed(below))


def _checked(path: bytes, leaf: Leaf) -> list[Mismatch]:
    wrong: list[Mismatch] = []
    with _noted(wrong, path, None):
        # The content of other names is that of the first.
        if leaf.resolved() is not leaf or leaf.kind != "reg":
            return wrong
    expected = None
    with _noted(wrong, path, None):
        expected = leaf.digest
    if expected is None:
        return wrong
    with _noted(wrong, path, expected):
        import hashlib

        digest = hashlib.sha256()
        for piece in leaf.read():
            digest.update(piece)
        if (found := f"sha256:{digest.hexdigest()}") != expected:
            wrong.append(Mismatch(path, expected, found, "its content is another"))
    return wrong


@contextmanager
def _noted(wrong: list[Mismatch], path: bytes, expected: str | None) -> Iterator[None]:
    """Make a mismatch of an error that is about what is there, not about reaching it."""
    try:
        yield
    except (CorruptError, NotFoundError, DeniedError, FormatError) as error:
        wrong.append(_mismatch(path, expected, error))
    except UnavailableError as error:
        if error.kind not in ("file-changing", "io"):
            raise
        wrong.append(_mismatch(path, expected, error))


def _mismatch(path: bytes, expected: str | None, error: SapwoodError) -> Mismatch:
    return Mismatch(path, expected, getattr(error, "found", None), str(error))
