"""Optimize: what a profile names is laid out again, together and about in the order of its reading.

Promise: a push of the same tree (docs/store.md): the ref moves only from the snapshot that was looked at, what was
there stays until nothing needs it, and nothing is written where nothing is to be gained. Not here: recording
(`profile`).
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from sapwood._core.filemap import FileMap, Frame
from sapwood.digests import SnapshotDigest, TreeDigest
from sapwood.errors import NotFoundError
from sapwood.fetch import load_map
from sapwood.profile import Part, Profile, find_profile
from sapwood.progress import OnProgress
from sapwood.store.ref import Ref
from sapwood.store.store import Store
from sapwood.upkeep.copy import Again, copy

__all__ = ["Layout", "Optimized", "optimize"]

# Frames with at most this much between them come by one request.
_GAP = 64 * 1024
# Frames bring this much that nobody asked for, and each request at most so little, before it pays to lay them out anew.
_WASTE, _REQUEST = 1.1, 1 << 20
# What is laid out lies in frames of a MiB or more, the last one aside: so much a frame, on the average, tells it.
_FRAME = 768 << 10
# Chunks are cut at multiples of this in their file, and only where that leaves out so much at least.
_BLOCK = 64 << 10
# A smaller file stays whole: mostly all of it is read, and cutting it wins nothing (docs/decisions/0020).
_WHOLE = 512 << 10


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
    wanted = _wanted(file_map, profile)
    before = after = _layout(wanted)
    if not _pays(wanted, before):
        done = time.monotonic() - started
        return Optimized(snapshot.tree, ref.snapshot, ref.name, before, after, 0, 0, 0, unchanged=True, seconds=done)
    copied = copy(store, snapshot, store, ref.name, onto=ref, anew=wanted, progress=progress)
    made = load_map(store, store.read_snapshot(copied.snapshot), pages=True)
    after = _layout(_wanted(made, profile))
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


def _pays(wanted: Mapping[str, Again], now: Layout) -> bool:
    frames = {again.frame for again in wanted.values()}
    size = sum(end - begin for again in wanted.values() for begin, end in again.ranges)
    plain = sum(frame.plain for frame in frames)
    return plain > size * _WASTE + _REQUEST or now.ranges > now.bytes / _REQUEST + 1 or len(frames) > plain / _FRAME + 1


def _wanted(file_map: FileMap, profile: Profile) -> dict[str, Again]:
    """Return the chunks of which a profile names something, in its order, with what is to be laid out of them."""
    wanted, files = dict[str, Again](), dict[bytes, _File]()
    for part in profile.in_order():
        file = files.get(part.path) or files.setdefault(part.path, _File(file_map, part.path))
        for frame, digest, size, ranges in file.under(part):
            again = wanted.setdefault(digest, Again(frame, []))
            again.ranges = _united([*again.ranges, *ranges], size)
    return wanted


class _File:
    """The chunks of a file, and where they begin."""

    def __init__(self, file_map: FileMap, path: bytes) -> None:
        entry = file_map.lookup(path)
        self._chunks = [] if entry is None else entry.chunks
        self._ends = list(accumulate(size for *_, size in self._chunks))

    def under(self, part: Part) -> Iterator[tuple[Frame, str, int, list[tuple[int, int]]]]:
        """Return the chunks that a part touches: frame, digest, size, and what of it to lay out."""
        if self._ends and self._ends[-1] < _WHOLE:
            for frame, _, digest, size in self._chunks:
                yield frame, digest, size, [(0, size)]
            return
        if not part.ranges:
            for frame, _, digest, size in self._chunks[slice(*self._at(part.offset, part.offset + 1))]:
                yield frame, digest, size, [(0, size)]
            return
        for begin, end in part.places():
            first, last = self._at(begin, end)
            for at in range(first, last):
                frame, _, digest, size = self._chunks[at]
                start = self._ends[at] - size
                block = begin // _BLOCK * _BLOCK, -(-end // _BLOCK) * _BLOCK
                yield frame, digest, size, [(max(block[0] - start, 0), min(block[1] - start, size))]

    def _at(self, begin: int, end: int) -> tuple[int, int]:
        """Return the first chunk that ends behind `begin`, and the first after it that begins at `end` or behind."""
        first = bisect_right(self._ends, begin)
        return first, min(max(bisect_left(self._ends, end) + 1, first), len(self._ends))


def _united(ranges: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return ranges of a chunk in order, with something between them; all of it where they leave out too little."""
    united = list[tuple[int, int]]()
    for begin, end in sorted(ranges):
        if united and begin <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((begin, end))
    left_out = size - sum(end - begin for begin, end in united)
    return united if left_out >= _BLOCK else [(0, size)]


def _layout(wanted: Mapping[str, Again]) -> Layout:
    total = ranges = 0
    pack, end = "", 0
    for frame in sorted({again.frame for again in wanted.values()}):
        total += frame.length
        if frame.pack != pack or frame.offset > end + _GAP:
            ranges += 1
        pack, end = frame.pack, frame.offset + frame.length
    return Layout(total, ranges)
