"""Trees: looking at a directory or a snapshot without caring which it is.

Promise: a tree is immutable and expands where it is looked at; two trees are compared by digests first.
Elsewhere: where a snapshot's pages come from (`sapwood.open`), the state on disk (`index`).
"""

from sapwood.tree.index import FileId, Hashed, Index, Status, Verified, hash_tree, status
from sapwood.tree.tree import Change, Entry, Tree

__all__ = ["Change", "Entry", "FileId", "Hashed", "Index", "Status", "Tree", "Verified", "hash_tree", "status"]
