"""What a push begins with: what may be re-used of the store, as docs/store.md says under "Push".

Promise: where this machine saw the ref last nothing is asked for; elsewhere what is asked for is asked while the
directory is being hashed, and no more of it than pays. Damage to what is only kept here costs time.
Not here: reading the directory (the core), writing to the store (`push`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sapwood._core.push import holdings_of
from sapwood.digests import PackName
from sapwood.errors import CorruptError, NotFoundError
from sapwood.fetch import load_map
from sapwood.store.ref import Ref, Removed
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.store.waiting import meanwhile

__all__ = ["Basis", "Seen", "find_basis", "seen_or_confirmed"]

# Fragments may cost this much to fetch, or this share of the bytes that the holdings do not explain, whichever is more:
# at any speed of the link they are then a small part of what they can save.
_BUDGET = 4 * 1024 * 1024
_SHARE = 64


@dataclass(frozen=True)
class Basis:
    """The snapshot before, its holdings, the memory of its pages, if known; pending fragments; what packs are usable.

    `warm`: this machine saw the ref last, and nothing has been asked for. `brief`: nothing was, for what is pushed is
    little, one of many of its kind.
    """

    previous: Snapshot | None = None
    holdings: bytes | None = None
    memory: bytes = b""
    pending: dict[PackName, bytes] = field(default_factory=dict)
    usable: tuple[list[PackName], list[PackName]] | None = None
    warm: bool = False
    brief: bool = False

    def fragments(self, store: Store, lacking: int) -> tuple[list[bytes], dict[str, bytes]]:
        """Return index fragments for a directory that lacks so many bytes, those of the store and those owed to it."""
        if self.warm or not lacking:
            return [], {}
        return store.fragments(max(_BUDGET, lacking // _SHARE)), store.owed()

    def looked_up(self, store: Store) -> Basis:
        """Return the same with all that may be re-used besides the holdings; errors as `find_basis`."""
        return _looked_up(store, self.previous, self.holdings, self.memory)


Seen = tuple[bytes, bytes, bytes]
"""What this machine kept of a ref's state, as `Store.seen` gives it."""


def seen_or_confirmed(store: Store, before: Ref | Removed | None) -> Seen | None:
    """Return what this machine saw of this very state; if it did not, make sure of what the store is.

    Only then is the store's grace known. Errors as `find_basis`.
    """
    seen = store.seen(before)
    if seen is None:
        store.confirm()
    return seen


def find_basis(
    store: Store, before: Ref | Removed | None, seen: Seen | None, hash_first: Callable[[], object]
) -> Basis:
    """Return what a push on top of the state `before` begins with; `seen` is what `seen_or_confirmed` returned.

    `hash_first` hashes the directory; it is called while a previous snapshot is being fetched.

    Raises:
        CorruptError: `record-corrupt`, of a record of what is condemned.
        FormatError: `format-newer`.
        UnavailableError, DeniedError: the store does not answer, or refuses to.
    """
    if seen and before and before.snapshot:
        snapshot, holdings, memory = seen
        previous = Snapshot.decode(snapshot, before.snapshot, url=store.url)
        if not store.has_pending():
            return Basis(previous, holdings, memory, warm=True)
        return _looked_up(store, previous, holdings, memory)
    # Now, for where a newer sapwood has written nothing is changed.
    previous_found = _snapshot(store, before)
    if previous_found is None:
        return _looked_up(store, None, None)
    looked = meanwhile(lambda: _looked_up(store, previous_found, _holdings(store, previous_found)))
    hash_first()
    return looked()


def _looked_up(store: Store, previous: Snapshot | None, holdings: bytes | None, memory: bytes = b"") -> Basis:
    there, sound = store.usable_packs()
    return Basis(previous, holdings, memory, store.pending(sound), (sorted(there), sorted(sound)))


def _holdings(store: Store, previous: Snapshot) -> bytes | None:
    """Return the holdings as the snapshot's pages say; nothing when they are lost or damaged, as `_snapshot`."""
    try:
        return holdings_of(load_map(store, previous, pages=True))
    except (NotFoundError, CorruptError):
        return None


def _snapshot(store: Store, ref: Ref | Removed | None) -> Snapshot | None:
    """Return what the ref named; nothing when it is lost or damaged, for a push must be able to follow it even so."""
    if ref is None or ref.snapshot is None:
        return None
    try:
        return store.read_snapshot(ref.snapshot)
    except (NotFoundError, CorruptError):
        return None
