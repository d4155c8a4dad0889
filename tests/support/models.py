"""Trees as nested dictionaries: what the trees of sapwood are compared with.

A model is {name: item}; an item is a model, `File` or `Link`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Union

from hypothesis import strategies as st

from sapwood import Index, open_store
from sapwood.tree import Item, Leaf, Tree, read_plain, write_plain


class File(NamedTuple):
    """A regular file."""

    content: bytes
    executable: bool = False


class Link(NamedTuple):
    """A symlink."""

    target: bytes


Model = dict[bytes, Union["Model", File, Link]]

# Few, so that two trees meet; such as sort differently by path and by (parent, name), and such as need quotes.
NAMES = st.sampled_from([b"a", b"b", b"a.b", b"a-", b"\xff", b"c d", b'q"\\', b"n\tl"])
CONTENTS = st.one_of(
    st.sampled_from([b"", b"same\n", b"other\n", b"no end"]),
    st.lists(st.sampled_from([b"one", b"two", b"three", b"", b"\r"]), max_size=30).map(b"\n".join),
)
LEAVES = st.one_of(
    st.builds(File, CONTENTS, st.booleans()), st.sampled_from([Link(b"a"), Link(b"../b c"), Link(b"/\xfe")])
)
ITEMS = st.recursive(LEAVES, lambda inside: st.dictionaries(NAMES, inside, max_size=4), max_leaves=12)
MODELS: st.SearchStrategy[Model] = st.dictionaries(NAMES, ITEMS, max_size=5)


def tree_of(model: Model) -> Tree:
    """Return the model as a tree in memory."""
    return Tree.of({name: item_of(item) for name, item in model.items()})


def item_of(item: Model | File | Link) -> Item:
    if isinstance(item, File):
        return Leaf.file(item.content, executable=item.executable)
    return Leaf.symlink(item.target) if isinstance(item, Link) else tree_of(item)


def model_of(tree: Tree) -> Model:
    """Read a tree back, through everything it has."""
    return {name: _read(item) for name, item in tree.list_immediate()}


def _read(item: Item) -> Model | File | Link:
    if isinstance(item, Tree):
        return model_of(item)
    if item.kind == "symlink":
        return Link(item.target or b"")
    return File(b"".join(item.read()), item.executable)


def walked(model: Model, folder: bytes = b"") -> Iterator[tuple[bytes, Model | File | Link]]:
    """Yield path and item of all below, parents first, by the bytes of the names."""
    for name, item in sorted(model.items()):
        path = folder + b"/" + name if folder else name
        yield path, item
        if isinstance(item, dict):
            yield from walked(item, path)


def in_memory(model: Model, _: Path) -> Tree:
    return tree_of(model)


def plain(model: Model, place: Path) -> Tree:
    return read_plain(_written(model, place))


def indexed(model: Model, place: Path) -> Tree:
    return Index(_written(model, place), place / "index").tree()


def looked_at(model: Model, place: Path) -> Tree:
    return Index.read(place / "index", _written(model, place))


def stored(model: Model, place: Path) -> Tree:
    _written(model, place)
    store = open_store(str(place / "store"), create=True, cache_dir=place / "cache")
    store.push(place / "tree", "main", index=place / "index")
    shutil.rmtree(place / "tree")
    return store.tree("main")


# All that a tree can stand on.
SOURCES: dict[str, Callable[[Model, Path], Tree]] = {
    "memory": in_memory,
    "plain": plain,
    "index": indexed,
    "lazy index": looked_at,
    "store": stored,
}


def _written(model: Model, place: Path) -> Path:
    os.makedirs(place, exist_ok=True)
    write_plain(tree_of(model), place / "tree")
    return place / "tree"
