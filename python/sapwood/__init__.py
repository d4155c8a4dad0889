"""sapwood: hash file trees incrementally, ship only what is missing, use them anywhere before they have arrived.

    import sapwood

    store = sapwood.open_store("s3://bucket/trees", create=True)
    store.push("checkout", "main")                     # directory -> store; sends what the store lacks
    with store.mount("main", "/mnt/main") as mounted:  # store -> file system; reads fetch what they touch
        ...

Promise: `import sapwood` costs next to nothing. Each name below is imported from its module when first used, so
a program that only hashes never loads a store.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# In step with Cargo.toml (tests/unit/test_package.py); a constant, because asking the installed metadata takes 20 ms.
__version__ = "0.1.0"

if TYPE_CHECKING:
    pass

# name -> module that defines it
_EXPORTS: dict[str, str] = {}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'sapwood' has no attribute {name!r}")
    value: object = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
