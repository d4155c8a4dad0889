"""Trees: looking at a directory or a snapshot without caring which it is.

Promise: a tree is immutable and expands where it is looked at; two trees are compared by digests first. Each name below
is imported when first used: who only hashes loads no tree.
Elsewhere: where a snapshot's pages come from (`sapwood.open`), the state on disk (`index`).
"""

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from sapwood.tree.index import Hashed as Hashed
    from sapwood.tree.index import Index as Index
    from sapwood.tree.index import Status as Status
    from sapwood.tree.index import hash_tree as hash_tree
    from sapwood.tree.index import status as status
    from sapwood.tree.inspection import FileId as FileId
    from sapwood.tree.inspection import Verified as Verified
    from sapwood.tree.tree import Change as Change
    from sapwood.tree.tree import Entry as Entry
    from sapwood.tree.tree import Tree as Tree

# name -> module that defines it
_EXPORTS = {
    "Change": "sapwood.tree.tree",
    "Entry": "sapwood.tree.tree",
    "FileId": "sapwood.tree.inspection",
    "Hashed": "sapwood.tree.index",
    "Index": "sapwood.tree.index",
    "Status": "sapwood.tree.index",
    "Tree": "sapwood.tree.tree",
    "Verified": "sapwood.tree.inspection",
    "hash_tree": "sapwood.tree.index",
    "status": "sapwood.tree.index",
}

__all__ = [*_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'sapwood.tree' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value
