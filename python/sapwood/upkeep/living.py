"""What is alive: every snapshot of every history, its map, and each frame that it needs, where that lies now.

Invariant: what could not be read ends it with an error, so nothing counts as dead because it is damaged or late.
Not here: what becomes of the dead (`gc`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from sapwood._core.collect import Marks
from sapwood.digests import MapDigest, PackName, SnapshotDigest
from sapwood.errors import CorruptError, NotFoundError
from sapwood.fetch import Pages, fetch_all, load_map
from sapwood.store.history import of_ref
from sapwood.store.keys import (
    PACKS,
    map_key,
    moved_key,
    moved_name,
    pack_key,
    pack_name,
    ref_profile_key,
    snapshot_key,
    tree_profile_key,
)
from sapwood.store.ref import Ref
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.store.waiting import each

__all__ = ["Living", "find_living", "mark_maps"]

# File maps in memory at a time, without their pages.
_MAPS = 16


@dataclass
class Living:
    """What some ref needs. `keys` are those of snapshots and maps; of packs `marks` tell; `profiles` may be there."""

    refs: int = 0
    snapshots: list[Snapshot] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    profiles: set[str] = field(default_factory=set)
    marks: Marks = field(default_factory=Marks)


def find_living(store: Store) -> Living:
    """Read all refs, histories, file maps and pages.

    Raises:
        CorruptError: `ref-corrupt`, `snapshot-corrupt`, `damaged`, `chunk-corrupt`.
        NotFoundError: `snapshot-missing`, `map-missing`, `pack-missing`: something that is needed is not there.
        FormatError: `format-newer`.
    """
    living = Living()
    refs = store.refs()
    living.refs = len(refs)
    living.profiles = {ref_profile_key(ref.name) for ref in refs}
    maps: dict[MapDigest, Snapshot] = {}
    living.snapshots = list(_snapshots(store, refs))
    for snapshot in living.snapshots:
        living.keys |= {snapshot_key(snapshot.digest), map_key(snapshot.map)}
        living.profiles.add(tree_profile_key(snapshot.tree))
        maps[snapshot.map] = snapshot
    mark_maps(store, living.marks, maps.values())
    return living


def mark_maps(store: Store, marks: Marks, snapshots: Iterable[Snapshot]) -> None:
    """Mark what these snapshots need, where it lies now; errors as `find_living`."""
    for some in _batched(snapshots, _MAPS):
        for file_map in each(lambda snapshot: load_map(store, snapshot, pages=False), some):
            numbers = {frame: number for number, frame in marks.map(file_map)}
            fetch_all(store, Pages(partial(marks.page, file_map), numbers), lambda _: None)
    _follow(store, marks)


def _snapshots(store: Store, refs: Iterable[Ref]) -> Iterable[Snapshot]:
    known: dict[SnapshotDigest, Snapshot] = {}

    def read(digest: SnapshotDigest) -> Snapshot:
        if digest not in known:
            known[digest] = store.read_snapshot(digest)
        return known[digest]

    def walk(ref: Ref) -> None:
        for _ in of_ref(ref, read):
            pass

    each(walk, list(refs))
    return known.values()


def _follow(store: Store, marks: Marks) -> None:
    """Take the marks to where the packs were moved, and make sure that each pack is there."""
    objects = store._collecting()
    listed = objects.list(PACKS)
    there = {name for key in listed if (name := pack_name(key))}
    moved = {name for key in listed if (name := moved_name(key))}
    redirects: dict[str, bytes] = {}
    while todo := [
        name for name in map(PackName, marks.packs()) if name not in redirects and (name in moved or name not in there)
    ]:
        for name, redirect in zip(todo, each(lambda name: _redirect(store, name), todo), strict=True):
            redirects[name] = redirect or b""
        try:
            marks.follow({name: redirect for name, redirect in redirects.items() if redirect})
        except CorruptError as error:
            raise CorruptError(f"{store.url}: {error}", kind=error.kind, store=store.url) from error
    # What is not listed may be new; what has a redirect may still be needed itself.
    unlisted = [name for name in map(PackName, marks.packs()) if name not in there]
    for name, found in zip(unlisted, each(lambda name: objects.exists(pack_key(name)), unlisted), strict=True):
        if not found:
            raise NotFoundError(
                f"{store.url} has no pack {name[:12]}, which a ref needs",
                kind="pack-missing",
                hint=f"sapwood verify {store.url}",
                store=store.url,
                pack=name,
            )


def _redirect(store: Store, name: PackName) -> bytes | None:
    try:
        return store._collecting().get(moved_key(name))
    except NotFoundError as error:
        if error.kind != "object-missing":
            raise
        return None


def _batched(snapshots: Iterable[Snapshot], size: int) -> Iterable[list[Snapshot]]:
    todo = list(snapshots)
    return (todo[at : at + size] for at in range(0, len(todo), size))
