"""What is asked of a store first: what an address names, and the file map of that, each as soon as it can be.

Invariant: it may be asked for before the server knows what else it is to do, and is imported; what is found, or went
wrong, counts only for the very address that is then mounted. Not here: mounting by it (`heritage`).
"""

from __future__ import annotations

from pathlib import Path

from sapwood import places
from sapwood.store.address import Address
from sapwood.store.objects import open_objects
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.store.waiting import meanwhile

__all__ = ["Asking"]


class Asking:
    """What an address names, on its way."""

    def __init__(self, address: Address, cache_dir: Path) -> None:
        self._address, self._cache_dir = address, cache_dir
        self._opened = meanwhile(lambda: address.open(cache_dir=cache_dir))
        # Begun before anything else is asked of the snapshot: it has a connection that is there.
        self._map = meanwhile(self._read_map)

    @classmethod
    def ahead(cls, text: str) -> Asking:
        """Ask for an address before it is known what for.

        Errors as `Address.parse`.
        """
        address = Address.parse(text)
        # All else is imported while the answers are on their way.
        open_objects(address.store_url)
        import obstore.store  # noqa: F401

        return cls(address, places.cache_dir())

    def is_of(self, address: Address, cache_dir: Path) -> bool:
        """Say whether this is what was asked for."""
        return (self._address, self._cache_dir) == (address, cache_dir)

    def snapshot(self) -> tuple[Store, Snapshot]:
        """Wait for the snapshot that is meant; errors as `Address.open`."""
        store, _, snapshot = self._opened()
        return store, snapshot

    def fence_index(self) -> bytes:
        """Wait for the file map of the snapshot as it lies in the store; errors as `snapshot` and `Store.read_map`."""
        return self._map()

    def _read_map(self) -> bytes:
        store, snapshot = self.snapshot()
        return store.read_map(snapshot.map)
