"""Optimize: what a profile names is laid out again, together and about in the order of its reading.

Promise: a push of the same tree (docs/store.md): the ref moves only from the snapshot that was looked at, what was
there stays until nothing needs it, and nothing is written where nothing is to be gained. Not here: recording
(`profile`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from sapwood._core.filemap import FileMap, Frame
from sapwood.digests import SnapshotDigest, TreeDigest
from sapwood.errors import NotFoundError
from sapwood.fetch import load_map
from sapwood.profile import Profile, find_profile
from sapwood.progress import OnProgress
from sapwood.store.ref import Ref
from sapwood.store.store import Store
from sapwood.upkeep.copy import copy

__all__ = ["Layout", "Optimized", "optimize"]

# Frames with at most this much between them come by one request.
_GAP = 64 * 1024
# Frames bring this much that nobody asked for, and each request at most so little, before it pays to lay them out anew.
_WASTE, _REQUEST = 1.1, 1 << 20


@dataclass(frozen=True)
class Layout:
    """How what a profile names lies: `bytes` stored, in frames that hold nothing else or more; ranges to ask for."""

    bytes: int
    ranges: int


@dataclass(frozen=True)
class Optimized:
    """What it did; sizes in bytes. `snapshot` is what the ref names now."""

    tree: TreeDigest
    snapshot: SnapshotDigest
    ref: str
    before: Layout
    after: Layout
    chunks: int
    """That were laid out again."""
    chunk_bytes: int
    bytes_stored: int
    unchanged: bool
    """There was nothing to gain."""
    seconds: float


def optimize(
    store: Store, ref: Ref, profile: Profile | None = None, *, progress: OnProgress | None = None
) -> Optimized:
    """Lay out what `profile`, by default the store's, names of the tree of `ref`, and let the ref name the result.

    Raises:
        NotFoundError: `profile-missing`; ConflictError: `ref-moved`; else as `copy`.
    """
    started = time.monotonic()
    snapshot = store.read_snapshot(ref.snapshot)
    profile = profile or find_profile(store, ref.name, snapshot.tree)
    if profile is None:
        raise NotFoundError(
            f"{store.url}#{ref.name}: nobody has recorded what is read of it",
            kind="profile-missing",
            hint=f"sapwood trace {store.url}#{ref.name} -- CMD",
        )
    file_map = load_map(store, snapshot, pages=True)
    wanted, size = _wanted(file_map, profile)
    before = after = _layout(wanted.values())
    plain = sum(frame.plain for frame in set(wanted.values()))
    if plain <= size * _WASTE + _REQUEST and before.ranges <= before.bytes / _REQUEST + 1:
        done = time.monotonic() - started
        return Optimized(snapshot.tree, ref.snapshot, ref.name, before, after, 0, 0, 0, unchanged=True, seconds=done)
    copied = copy(store, snapshot, store, ref.name, onto=ref, anew=wanted, progress=progress)
    made = load_map(store, store.read_snapshot(copied.snapshot), pages=True)
    after = _layout(_wanted(made, profile)[0].values())
    return Optimized(
        tree=copied.tree,
        snapshot=copied.snapshot,
        ref=ref.name,
        before=before,
        after=after,
        chunks=copied.chunks_sent,
        chunk_bytes=copied.chunk_bytes_sent,
        bytes_stored=copied.bytes_stored,
        unchanged=False,
        seconds=time.monotonic() - started,
    )


def _wanted(file_map: FileMap, profile: Profile) -> tuple[dict[str, Frame], int]:
    """Return the chunks that a profile names with their frames, in its order, and their plain bytes."""
    wanted, total = dict[str, Frame](), 0
    for path, offset in profile.in_order():
        entry = file_map.lookup(path)
        end = 0
        for frame, _, digest, size in [] if entry is None else entry.chunks:
            end += size
            if offset < end:
                if digest not in wanted:
                    wanted[digest] = frame
                    total += size
                break
    return wanted, total


def _layout(frames: Iterable[Frame]) -> Layout:
    total = ranges = 0
    pack, end = "", 0
    for frame in sorted(set(frames)):
        total += frame.length
        if frame.pack != pack or frame.offset > end + _GAP:
            ranges += 1
        pack, end = frame.pack, frame.offset + frame.length
    return Layout(total, ranges)
