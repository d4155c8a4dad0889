"""Stores: where trees lie, and how they are named there.

Promise: nothing acknowledged is lost, a reader never sees a name for something that is not there, and each kind of
place keeps the same promises (tests/contract). Protocols are in `base`; each kind has a file: `local`, `s3`, `http`.
Elsewhere: making packs and file maps (the core), deciding what to send and fetch (`sapwood.push`, `pull`, `mount`).
"""

from sapwood.store.address import Address
from sapwood.store.ref import Ref
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store, open_store

__all__ = ["Address", "Ref", "Snapshot", "Store", "open_store"]
