"""Moving: what is alive in packs that are mostly dead, into new packs.

Invariant: a redirect is created only when every pack it names is stored; every chunk in a frame is proved before the
frame is copied; nothing is deleted here. A pack that was not moved, because of damage or for want of time, stays as it
is. Not here: the copying (the core), what is moved (`gc`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sapwood._core.collect import Marks, Mover, OldPack
from sapwood.digests import PackName
from sapwood.errors import ConflictError, CorruptError, FormatError
from sapwood.store.base import CollectObjects, Listed
from sapwood.store.keys import moved_key, pack_key

__all__ = ["Moved", "move_packs"]

# Old packs that are read ahead, and new ones on their way to the store: both ways are busy and memory stays small.
_AHEAD, _IN_FLIGHT = 3, 2
# A pack that so many redirects lead to is not moved again: readers follow 32, and `repair` may need some.
_HOPS = 24
_TAIL = 64 * 1024


@dataclass
class Moved:
    """What was looked at and moved: packs with their redirects, and the bytes of the frames that were copied."""

    looked_at: set[PackName] = field(default_factory=set)
    redirects: dict[str, bytes] = field(default_factory=dict)
    bytes: int = 0


_Frames = list[tuple[int, int]]
_Found = tuple[OldPack, _Frames, list[bytes]]


def move_packs(
    objects: CollectObjects,
    marks: Marks,
    packs: Iterable[tuple[PackName, Listed]],
    push: str,
    in_time: Callable[[], bool],
    *,
    dry_run: bool,
) -> Moved:
    """Mark the outlines in these packs whose maps live; move what is marked in those that are mostly dead.

    Nothing new is begun once it is not `in_time` any more.

    Raises:
        SapwoodError: what reading and writing raises; what was moved until then is so.
    """
    moved, mover = Moved(), Mover(push)
    pool = ThreadPoolExecutor(_AHEAD + _IN_FLIGHT, thread_name_prefix="sapwood-move")
    redirectors = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="sapwood-redirect")
    flying, redirecting = deque[Future[None]](), deque[Future[None]]()

    def put(number: int, name: str, data: bytes) -> None:
        if not in_time():
            return
        objects.put(pack_key(PackName(name)), data)
        for ready in mover.stored(number):
            redirecting.append(redirectors.submit(redirect, *ready))

    def redirect(pack: str, text: bytes) -> None:
        if in_time():
            with contextlib.suppress(ConflictError):  # another collector was faster; it condemns the pack
                objects.swap(moved_key(PackName(pack)), text, None)
                moved.redirects[pack] = text

    def send(pack: tuple[int, str, bytes]) -> None:
        while len(flying) >= _IN_FLIGHT:
            flying.popleft().result()
        flying.append(pool.submit(put, *pack))

    def read(name: PackName, listed: Listed) -> _Found | None:
        old = _read_old(objects, name, listed)
        if old is None:
            return None
        _mark_outlines(objects, name, old, marks)
        frames = marks.frames(name)
        size = sum(length for _, length in frames)
        if not frames or 2 * size >= old.end or marks.hops(name) >= _HOPS:
            return None
        if dry_run:
            moved.redirects[name] = b""
            moved.bytes += size
            return None
        return _read_frames(objects, name, old, frames)

    try:
        ahead = deque[Future[_Found | None]]()
        todo = iter(packs)
        while True:
            while len(ahead) < _AHEAD and in_time() and (pack := next(todo, None)):
                ahead.append(pool.submit(read, *pack))
                moved.looked_at.add(pack[0])
            if not ahead:
                break
            if found := ahead.popleft().result():
                for full in mover.add(*found):
                    send(full)
                moved.bytes += sum(length for _, length in found[1])
        if last := mover.finish():
            send(last)
        for ended in itertools.chain(flying, redirecting):  # of packs first: they add redirects
            ended.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        redirectors.shutdown(wait=False, cancel_futures=True)
    return moved


def _read_old(objects: CollectObjects, name: PackName, listed: Listed) -> OldPack | None:
    """Return what a pack says of itself; None if that is damaged."""
    length = min(_TAIL, listed.size)
    with contextlib.suppress(CorruptError, FormatError):
        while True:
            tail = objects.get_range(listed.key, listed.size - length, length)
            old, needed = OldPack.read(name, tail, listed.size)
            if old or needed <= length:
                return old
            length = needed
    return None


def _mark_outlines(objects: CollectObjects, name: PackName, old: OldPack, marks: Marks) -> None:
    for offset, length in old.outlines():
        with contextlib.suppress(CorruptError, FormatError):  # nobody reads it but who recovers a store
            marks.outline(old, offset, objects.get_range(pack_key(name), offset, length))


def _read_frames(objects: CollectObjects, name: PackName, old: OldPack, frames: _Frames) -> _Found | None:
    """Return what is to be copied of a pack, proved; None if it is damaged."""
    for _ in range(2):  # what arrives damaged may be sound where it lies
        stored = objects.get_ranges(pack_key(name), frames)
        with contextlib.suppress(CorruptError):
            old.prove(frames, stored)
            return old, frames, stored
    return None
