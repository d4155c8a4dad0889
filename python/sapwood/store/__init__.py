"""Stores: where trees lie, and how they are named there.

Promise: nothing acknowledged is lost, a reader never sees a name for something that is not there, and each kind of
place keeps the same promises (tests/contract). Protocols are in `base`; each kind has a file: `local`, `s3`, `http`.
Elsewhere: making packs and file maps (the core), deciding what to send and fetch (`sapwood.push`, `pull`, `mount`).
"""

from sapwood.lazy import exporting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sapwood.store.address import Address as Address
    from sapwood.store.ref import Ref as Ref
    from sapwood.store.snapshot import Snapshot as Snapshot
    from sapwood.store.store import Store as Store
    from sapwood.store.store import open_store as open_store

__all__ = ["Address", "Ref", "Snapshot", "Store", "open_store"]

__getattr__, __dir__ = exporting(
    __name__,
    {
        "Address": "sapwood.store.address",
        "Ref": "sapwood.store.ref",
        "Snapshot": "sapwood.store.snapshot",
        "Store": "sapwood.store.store",
        "open_store": "sapwood.store.store",
    },
)
