"""Histories: which snapshots a ref stands for, newest first. docs/store.md, "What is alive".

Invariant: whatever is in a history is kept by collection, and nothing else is; so all who walk one walk it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sapwood.digests import SnapshotDigest
from sapwood.errors import NotFoundError
from sapwood.store.ref import Ref
from sapwood.store.snapshot import Snapshot

__all__ = ["line_of", "of_ref"]

Read = Callable[[SnapshotDigest], Snapshot]


def of_ref(ref: Ref, read: Read) -> Iterator[Snapshot]:
    """Yield the snapshots of a ref: its own, parent after parent up to `base`, then those kept; errors are `read`'s."""
    digest: SnapshotDigest | None = ref.snapshot
    while digest is not None:
        snapshot = read(digest)
        yield snapshot
        digest = None if digest == ref.base else snapshot.parent
    yield from map(read, ref.kept)


def line_of(snapshot: Snapshot, read: Read) -> Iterator[Snapshot]:
    """Yield a snapshot, its parent, and so on, until one is there no more, having been forgotten and collected.

    Errors are `read`'s.
    """
    yield snapshot
    while snapshot.parent is not None:
        try:
            snapshot = read(snapshot.parent)
        except NotFoundError as error:
            if error.kind != "snapshot-missing":
                raise
            return
        yield snapshot
