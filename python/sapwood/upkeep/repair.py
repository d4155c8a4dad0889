"""Repair: what is damaged or lost in a store, healed of what any other copy has. docs/store.md, "Repair".

Promise: nothing is healed by bytes that were not proved, and nothing sound is taken away. A damaged pack stays until a
collection deletes it, and it is condemned only when a redirect leads to its sound frames, and to those that could be
made again. What nobody has is named; what is of a newer format is left alone. Killed anywhere, it goes on when it is
run again. Not here: what is damaged (`verify`), a pack's frames (`brokenpack`), where else to look (`sources`).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sapwood._core.filemap import FileMap
from sapwood.digests import MapDigest, SnapshotDigest
from sapwood.errors import ConflictError, NotFoundError
from sapwood.progress import OnProgress
from sapwood.store.condemned import encode_condemned
from sapwood.store.keys import (
    condemned_key,
    fragment_name,
    is_condemned_key,
    lock_number,
    map_key,
    moved_key,
    moved_name,
    pack_key,
    pack_name,
    ref_name,
    snapshot_key,
)
from sapwood.store.store import Store
from sapwood.store.waiting import each
from sapwood.upkeep.brokenpack import BrokenPack
from sapwood.upkeep.lostpages import PageSource
from sapwood.upkeep.recover import make_again
from sapwood.upkeep.sources import Chunks, Source, StoreSource
from sapwood.upkeep.survey import DAMAGES, Damage, Survey, snapshot_digest
from sapwood.upkeep.verify import examine

__all__ = ["Repaired", "repair"]

# Each round may make more of a store readable, and so show more damage: refs, snapshots, maps, pages, contents.
_ROUNDS = 8


@dataclass(frozen=True)
class Repaired:
    """Keys that were healed, with what was done; and what is left, as `verify` tells it."""

    healed: tuple[tuple[str, str], ...]
    left: tuple[Damage, ...]
    seconds: float


def repair(store: Store, sources: Sequence[Source] = (), *, progress: OnProgress | None = None) -> Repaired:
    """Heal `store` of its own packs, then of `sources`, in order; `progress` as `verify`.

    Raises:
        InvalidInputError: `cannot-list`, `read-only-store`.
        UnavailableError, DeniedError: a place does not answer, or refuses to.
    """
    started = time.monotonic()
    healed: dict[str, str] = {}
    verified, survey = examine(store, read_data=100, progress=progress)
    for _ in range(_ROUNDS):
        if not verified.damages:
            break
        work = _Round(survey, [StoreSource(store), *sources])
        work.heal()
        if not work.healed:
            break
        healed |= work.healed
        verified, survey = examine(store, read_data=100, progress=progress)
    return Repaired(tuple(sorted(healed.items())), verified.damages, time.monotonic() - started)


class _Round:
    def __init__(self, survey: Survey, sources: Sequence[Source]) -> None:
        self.healed: dict[str, str] = {}
        self._survey = survey
        self._store = survey.store
        self._objects = survey.store._collecting()
        self._sources = sources
        self._chunks: list[Chunks] = [*sources, PageSource(survey, sources)]
        self._condemned: set[str] = set()

    def heal(self) -> None:
        """Heal what can be healed of the damages that are known."""
        keys = sorted(self._survey.damages.keys() - self._survey.newer)
        self._take_from_stores()
        self._heal_packs(keys)
        self._make_again(keys)
        for key in (key for key in keys if lock_number(key) is not None):
            self._objects.delete(key)
            self.healed[key] = "removed: the lock on refs is that of the number before it"
        for key in filter(is_condemned_key, keys):
            self._objects.delete(key)
            self.healed[key] = "removed: what it listed is condemned anew by the next collection"
        if self._condemned:
            self._objects.put(condemned_key(secrets.token_hex(8)), encode_condemned(self._condemned))

    def _make_again(self, keys: Sequence[str]) -> None:
        """Make what packs tell; what nothing needs and they do not tell is condemned."""
        refs = {name for key in keys if (name := ref_name(key))}
        forgotten = [
            digest
            for key in keys
            if key not in self.healed and not self._survey.damages[key].refs and (digest := snapshot_digest(key))
        ]
        for key in make_again(self._store, refs, forgotten).made:
            self.healed.setdefault(key, "made again")
        for digest in forgotten:
            if snapshot_key(digest) not in self.healed:
                self._condemn(snapshot_key(digest), "nothing needs it")
        for key in keys:
            if fragment_name(key) and not self._objects.exists(key):
                self.healed.setdefault(key, "removed: what packs say of themselves is in another")

    # Snapshots and file maps

    def _take_from_stores(self) -> None:
        """Take snapshots and fence indexes that are damaged from other stores that have them."""
        others = [source.store for source in self._sources[1:] if isinstance(source, StoreSource)]
        for digest in self._survey.snapshots:
            if snapshot_key(digest) in self._survey.damages:
                self._take_snapshot(digest, others)
        for wanted, mapped in self._survey.maps.items():
            if map_key(wanted) in self._survey.damages:
                self._take_map(wanted, mapped.snapshot.map_size, others)

    def _take_snapshot(self, digest: SnapshotDigest, others: Sequence[Store]) -> None:
        for other in others:
            with contextlib.suppress(*DAMAGES):
                snapshot = other.read_snapshot(digest)
                # A put of what has the right size may be taken as done.
                self._objects.delete(snapshot_key(digest))
                self._store.write_snapshot(snapshot)
                self.healed[snapshot_key(digest)] = f"taken from {other.url}"
                return

    def _take_map(self, digest: MapDigest, size: int, others: Sequence[Store]) -> None:
        for other in others:
            with contextlib.suppress(*DAMAGES):
                stored = other.read_map(digest)
                FileMap(stored, digest, size)
                self._objects.delete(map_key(digest))
                self._store.put_map(digest, stored)
                self.healed[map_key(digest)] = f"taken from {other.url}"
                return

    # Packs

    def _heal_packs(self, keys: Sequence[str]) -> None:
        needed = set(self._survey.needs.packs())
        broken = {name for key in keys if (name := pack_name(key))}
        for name in filter(None, map(moved_name, keys)):
            if name in needed:
                broken.add(name)
            else:
                self._objects.delete(moved_key(name))
                self.healed[moved_key(name)] = "removed: nothing needs it"
        lost: dict[str, int] = {}
        for name in sorted(broken):
            lost |= BrokenPack(self._survey, name).lost
        held = self._survey.held(list(lost)) if lost else []
        for source in self._chunks if lost else ():
            source.look(lost, held)
        for name in sorted(broken):
            self._heal_pack(BrokenPack(self._survey, name))

    def _heal_pack(self, broken: BrokenPack) -> None:
        """Put what is left of a pack, and what was found of it elsewhere, into a new one; lead to it."""
        key = pack_key(broken.name)
        if broken.is_newer:
            return
        if not broken.is_needed:
            if broken.is_there:
                self._condemn(key, "nothing needs it")
            return
        wanted = list(broken.lost.items())
        data = zip(broken.lost, each(lambda item: self._read(*item), wanted), strict=True)
        found = {digest: chunk for digest, chunk in data if chunk is not None}
        if broken.lost_needs and broken.lost_needs.isdisjoint(found):
            return
        made = broken.make_again(found)
        if made is None:
            if broken.is_there:
                self._condemn(key, "nothing in it is sound, or needed to read a tree")
            return
        name, pack, redirect = made
        self._store.put_pack(name, pack)
        with contextlib.suppress(ConflictError):  # somebody else was faster; then what is new is collected
            self._lead(broken, redirect)
            self.healed[key] = f"moved to {pack_key(name)}"
            if broken.is_there:
                self._condemned.add(key)

    def _condemn(self, key: str, why: str) -> None:
        self._condemned.add(key)
        self.healed[key] = f"condemned: {why}"

    def _lead(self, broken: BrokenPack, redirect: bytes) -> None:
        """Let the redirect of a pack be this."""
        key = moved_key(broken.name)
        version = None
        with contextlib.suppress(NotFoundError):
            before, version = self._objects.read_versioned(key)
            if before != broken.redirect and key not in self._survey.damages:
                raise ConflictError(f"{self._store.url}: {key} has just changed", kind="object-changed")
        if version is not None and self._store.refs_move_by == "lock":
            self._objects.delete(key)
            version = None
        self._objects.swap(key, redirect, version)
        if key in self._survey.damages:
            self.healed[key] = "made again"

    def _read(self, digest: str, size: int) -> bytes | None:
        for source in self._chunks:
            if (data := source.read(digest, size)) is not None:
                return data
        return None
