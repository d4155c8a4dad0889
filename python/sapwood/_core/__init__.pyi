"""The compiled core; a submodule a room. Import it only through the faces (tree, filemap, mount, push, pull)."""

from . import archive as archive
from . import collect as collect
from . import copy as copy
from . import digest as digest
from . import direct as direct
from . import directory as directory
from . import filemap as filemap
from . import index as index
from . import layers as layers
from . import mount as mount
from . import pull as pull
from . import push as push
from . import regzip as regzip
from . import seek as seek
from . import serve as serve
from . import stargz as stargz
from . import tree as tree
from . import upkeep as upkeep
from . import watch as watch

__all__ = [
    "archive",
    "collect",
    "copy",
    "digest",
    "direct",
    "directory",
    "filemap",
    "index",
    "layers",
    "mount",
    "pull",
    "push",
    "regzip",
    "seek",
    "serve",
    "stargz",
    "tree",
    "upkeep",
    "watch",
]
