"""Stats: how much a store holds and what for, or what one tree takes of it.

Promise: what is counted was read and proved, every page of a file map once; contents are not read. Not here: whether
packs hold what they should (`verify`), taking away what is dead (`gc`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sapwood._core.collect import Marks
from sapwood.fetch import Pages, fetch_all, load_map
from sapwood.store.keys import FRAGMENTS, MAPS, PACKS, SNAPSHOTS, pack_name
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.upkeep.living import find_living

__all__ = ["Stats", "stats", "stats_of"]


@dataclass(frozen=True)
class Stats:
    """Sizes in bytes. What is None is known of a whole store only."""

    refs: int | None
    snapshots: int
    entries: int
    """Of all these snapshots, and so `tree_bytes`."""
    tree_bytes: int
    chunks: int
    """Each once, and so `chunk_bytes`, which are those before compression."""
    chunk_bytes: int
    chunk_bytes_stored: int
    pages: int
    page_bytes_stored: int
    packs: int
    """In which something of this lies."""
    packs_there: int | None
    pack_bytes: int | None
    dead_bytes: int | None
    """Of packs, what no frame takes that is needed: dead frames and tables of contents."""
    bytes_stored: int | None
    """Packs, file maps, snapshots and index fragments."""
    seconds: float

    @property
    def deduplication(self) -> float | None:
        """How often a byte of a chunk is used on average."""
        return self.tree_bytes / self.chunk_bytes if self.chunk_bytes else None

    @property
    def compression(self) -> float | None:
        """How many bytes of chunks are stored as one."""
        return self.chunk_bytes / self.chunk_bytes_stored if self.chunk_bytes_stored else None


def stats(store: Store) -> Stats:
    """Look at all that the refs of a store need.

    Raises:
        InvalidInputError: `cannot-list`, `read-only-store`: the place has no listings.
        CorruptError, NotFoundError, FormatError: as `find_living`; `sapwood verify` says more.
    """
    started = time.monotonic()
    listed = {folder: store._collecting().listed(folder) for folder in (PACKS, MAPS, SNAPSHOTS, FRAGMENTS)}
    living = find_living(store)
    chunks, chunk_bytes, chunk_stored, pages, page_stored = living.marks.totals()
    packs = [pack.size for pack in listed[PACKS] if pack_name(pack.key)]
    return Stats(
        refs=living.refs,
        snapshots=len(living.snapshots),
        entries=sum(snapshot.entries for snapshot in living.snapshots),
        tree_bytes=sum(snapshot.bytes for snapshot in living.snapshots),
        chunks=chunks,
        chunk_bytes=chunk_bytes,
        chunk_bytes_stored=chunk_stored,
        pages=pages,
        page_bytes_stored=page_stored,
        packs=len(living.marks.packs()),
        packs_there=len(packs),
        pack_bytes=sum(packs),
        dead_bytes=max(0, sum(packs) - chunk_stored - page_stored),
        bytes_stored=sum(each.size for found in listed.values() for each in found),
        seconds=time.monotonic() - started,
    )


def stats_of(store: Store, snapshot: Snapshot) -> Stats:
    """Look at all that one snapshot needs; errors as `load_map`."""
    started = time.monotonic()
    marks = Marks()
    file_map = load_map(store, snapshot, pages=False)
    numbers = {frame: number for number, frame in marks.map(file_map)}
    fetch_all(store, Pages(lambda page, stored: marks.page(file_map, page, stored), numbers), lambda _: None)
    chunks, chunk_bytes, chunk_stored, pages, page_stored = marks.totals()
    return Stats(
        refs=None,
        snapshots=1,
        entries=snapshot.entries,
        tree_bytes=snapshot.bytes,
        chunks=chunks,
        chunk_bytes=chunk_bytes,
        chunk_bytes_stored=chunk_stored,
        pages=pages,
        page_bytes_stored=page_stored,
        packs=len(marks.packs()),
        packs_there=None,
        pack_bytes=None,
        dead_bytes=None,
        bytes_stored=None,
        seconds=time.monotonic() - started,
    )
