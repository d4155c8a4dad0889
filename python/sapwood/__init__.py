"""sapwood: hash file trees incrementally, ship only what is missing, use them anywhere before they have arrived.

    import sapwood

    store = sapwood.open_store("s3://bucket/trees", create=True)
    store.push("checkout", "main")                     # directory -> store; sends what the store lacks
    with store.mount("main", "/mnt/main") as mounted:  # store -> file system; reads fetch what they touch
        ...

Promise: `import sapwood` costs next to nothing. Each name below is imported from its module when first used, so
a program that only hashes never loads a store.
"""

from sapwood.lazy import exporting

# In step with Cargo.toml (tests/unit/test_package.py); a constant, because asking the installed metadata takes 20 ms.
__version__ = "0.1.0"

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from sapwood.errors import SapwoodError as SapwoodError
    from sapwood.open import open_store as open_store
    from sapwood.open import open_tree as open_tree
    from sapwood.tree.index import Index as Index
    from sapwood.tree.index import hash_tree as hash_tree
    from sapwood.tree.index import status as status
    from sapwood.tree.leaf import Leaf as Leaf
    from sapwood.tree.options import Options as Options
    from sapwood.tree.plain import read_plain as read_plain
    from sapwood.tree.tree import Tree as Tree
    from sapwood.tree.unified import unified_diff as unified_diff
    from sapwood.tree.write import write_plain as write_plain

# name -> module that defines it
_EXPORTS = {
    "Index": "sapwood.tree.index",
    "Leaf": "sapwood.tree.leaf",
    "Options": "sapwood.tree.options",
    "SapwoodError": "sapwood.errors",
    "Tree": "sapwood.tree.tree",
    "hash_tree": "sapwood.tree.index",
    "open_store": "sapwood.open",
    "open_tree": "sapwood.open",
    "read_plain": "sapwood.tree.plain",
    "status": "sapwood.tree.index",
    "unified_diff": "sapwood.tree.unified",
    "write_plain": "sapwood.tree.write",
}

__all__ = ["__version__", *_EXPORTS]

__getattr__, __dir__ = exporting(__name__, _EXPORTS)
