"""Trees: looking at a directory or a snapshot without caring which it is.

Promise: a tree is immutable and unfolds where it is looked at; two trees are compared by digests first. How it is made:
the head of `tree`; how it is used: docs/tree.md; why so: docs/decisions/0007.
A name is imported from its module when first used, so that hashing loads no diff.
Elsewhere: where a snapshot's pages come from (`sapwood.open`), the state on disk (`index`).
"""

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from sapwood.tree.check import Mismatch as Mismatch
    from sapwood.tree.diff import Change as Change
    from sapwood.tree.index import Hashed as Hashed
    from sapwood.tree.index import Index as Index
    from sapwood.tree.index import Status as Status
    from sapwood.tree.index import hash_tree as hash_tree
    from sapwood.tree.index import status as status
    from sapwood.tree.inspection import FileId as FileId
    from sapwood.tree.inspection import Verified as Verified
    from sapwood.tree.leaf import Leaf as Leaf
    from sapwood.tree.options import Options as Options
    from sapwood.tree.plain import read_plain as read_plain
    from sapwood.tree.source import Entry as Entry
    from sapwood.tree.source import Source as Source
    from sapwood.tree.tree import Item as Item
    from sapwood.tree.tree import Tree as Tree
    from sapwood.tree.unified import unified_diff as unified_diff
    from sapwood.tree.write import write_plain as write_plain

# name -> module that defines it
_EXPORTS = {
    "Change": "sapwood.tree.diff",
    "Entry": "sapwood.tree.source",
    "FileId": "sapwood.tree.inspection",
    "Hashed": "sapwood.tree.index",
    "Index": "sapwood.tree.index",
    "Item": "sapwood.tree.tree",
    "Leaf": "sapwood.tree.leaf",
    "Mismatch": "sapwood.tree.check",
    "Options": "sapwood.tree.options",
    "Source": "sapwood.tree.source",
    "Status": "sapwood.tree.index",
    "Tree": "sapwood.tree.tree",
    "Verified": "sapwood.tree.inspection",
    "hash_tree": "sapwood.tree.index",
    "read_plain": "sapwood.tree.plain",
    "status": "sapwood.tree.index",
    "unified_diff": "sapwood.tree.unified",
    "write_plain": "sapwood.tree.write",
}

__all__ = [*_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'sapwood.tree' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value
