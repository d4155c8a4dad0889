"""Trees made of trees: filtered, restricted, overlaid, modified, expanded.

Invariant: the trees they are made of stay as they are, index and store too; a directory that cannot have changed keeps
its digest, any other has none until it is asked for. Owner, mode and times of a directory are those of the tree it is
made of, where two are merged those of the top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sapwood.errors import InvalidInputError
from sapwood.tree.leaf import Leaf
from sapwood.tree.memory import item_of
from sapwood.tree.source import check_name, joined, shown
from sapwood.tree.tree import Item, Tree

__all__ = ["expanded", "expanded_path", "filtered", "modified", "overlaid", "restricted"]


def filtered(tree: Tree, predicate: Callable[[bytes, Item], bool], path: bytes = b"") -> Tree:
    """See `Tree.filter`; `path` is where `tree` stands in what is filtered."""

    def unfold() -> dict[bytes, Item]:
        kept: dict[bytes, Item] = {}
        for name, item in tree.items.items():
            below = joined(path, name)
            if predicate(below, item):
                kept[name] = filtered(item, predicate, below) if isinstance(item, Tree) else item
        return kept

    return Tree(unfold, like=tree)


def restricted(tree: Tree, guide: Tree) -> Tree:
    """See `Tree.restrict`."""

    def unfold() -> dict[bytes, Item]:
        guides, kept = guide.items, dict[bytes, Item]()
        for name, item in tree.items.items():
            other = guides.get(name)
            if isinstance(item, Tree) and isinstance(other, Tree):
                kept[name] = restricted(item, other)
            elif isinstance(item, Leaf) and isinstance(other, Leaf):
                kept[name] = item
        return kept

    return Tree(unfold, like=tree)


def overlaid(base: Tree, top: Tree) -> Tree:
    """See `Tree.overlay`."""

    def unfold() -> dict[bytes, Item]:
        merged = dict(base.items)
        for name, item in top.items.items():
            below = merged.get(name)
            both = isinstance(item, Tree) and isinstance(below, Tree)
            merged[name] = overlaid(below, item) if both else item  # type: ignore[arg-type] # mypy sees not through both
        return dict(sorted(merged.items()))

    return Tree(unfold, like=base if top.entry is None else top)


def modified(tree: Tree, path: bytes, item: Tree | Leaf | bytes | Mapping[bytes, object] | None) -> Tree:
    """See `Tree.modify`."""
    put = None if item is None else item_of(item)
    names = path.strip(b"/").split(b"/") if path.strip(b"/") else []
    if not names:
        if not isinstance(put, Tree):
            raise InvalidInputError("the root is a directory", kind="not-a-directory", path=path)
        return put
    spine = [tree]
    for at, name in enumerate(names):
        check_name(name)
        below = spine[-1].items.get(name)
        if at == len(names) - 1:
            if below is put:
                return tree
        elif isinstance(below, Tree):
            spine.append(below)
        elif put is None:
            return tree
        elif below is None:
            spine.append(Tree(held={}))
        else:
            raise InvalidInputError(
                f"{shown(b'/'.join(names[: at + 1]))} is not a directory", kind="not-a-directory", path=path
            )
    for name in reversed(names):
        folder = spine.pop()
        items = {**folder.items, name: put} if put is not None else {n: i for n, i in folder.items.items() if n != name}
        put = Tree(held=dict(sorted(items.items())), like=folder)
    assert isinstance(put, Tree)
    return put


class _Unfolding:
    """A directory whose subtrees are being expanded."""

    __slots__ = ("changed", "items", "name", "path", "todo", "tree")

    def __init__(self, path: bytes, name: bytes, tree: Tree) -> None:
        self.path = path
        self.name = name
        self.tree = tree
        self.items: dict[bytes, Item] = dict(tree.items)
        # Its values are replaced as they have been passed, which a dictionary allows.
        self.todo: Iterator[tuple[bytes, Item]] = iter(self.items.items())
        self.changed = False


def expanded(tree: Tree, update: Callable[[bytes, Tree], Tree]) -> Tree:
    """See `Tree.expand_update`."""
    spine = [_Unfolding(b"", b"", tree)]
    while True:
        at = spine[-1]
        for name, item in at.todo:
            if isinstance(item, Tree):
                spine.append(_Unfolding(joined(at.path, name), name, item))
                break
        else:
            spine.pop()
            held = _held(at.tree, at.items, changed=at.changed)
            result = update(at.path, held)
            if not spine:
                return result
            spine[-1].items[at.name] = result
            spine[-1].changed |= at.changed or result is not held


def expanded_path(tree: Tree, path: bytes) -> Tree:
    """See `Tree.expand_path`."""
    spine = [(b"", tree)]
    for name in filter(None, path.strip(b"/").split(b"/")):
        below = spine[-1][1].items.get(name)
        if not isinstance(below, Tree):
            break
        spine.append((name, below))
    name, tree = spine.pop()
    made = _held(tree, dict(tree.items), changed=False)
    while spine:
        above, tree = spine.pop()
        made = _held(tree, {**tree.items, name: made}, changed=False)
        name = above
    return made


def _held(tree: Tree, items: dict[bytes, Item], *, changed: bool) -> Tree:
    """A tree that holds `items`, and still has the digest of `tree` unless one of them has changed."""
    digest = (None, None) if changed or tree.known_digest is None else (tree.digest, tree.size)
    return Tree(held=items, like=tree, digest=digest)
