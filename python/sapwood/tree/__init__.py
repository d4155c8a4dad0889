"""Trees: looking at a directory or a snapshot without caring which it is.

Promise: a tree is immutable and expands where it is looked at; two trees are compared by digests first.
Elsewhere: where a snapshot's pages come from (`sapwood.open`), the state on disk (`index`).
"""

from sapwood.tree.index import Hashed, Index, Status, hash_tree, status
from sapwood.tree.tree import Change, Entry, Tree

__all__ = ["Change", "Entry", "Hashed", "Index", "Status", "Tree", "hash_tree", "status"]
