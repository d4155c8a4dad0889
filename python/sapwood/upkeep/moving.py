"""Moving: what is alive in packs that are mostly dead, into new packs.

Invariant: a redirect is created only when every pack it names is stored; nothing is deleted here. A pack that was not
moved, because of damage or for want of time, stays as it is. Not here: the copying (the core), what is moved (`gc`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sapwood._core.collect import Marks, Mover, OldPack
from sapwood.digests import PackName
from sapwood.errors import ConflictError, CorruptError, FormatError
from sapwood.store.base import CollectObjects, Listed
from sapwood.store.keys import moved_key, pack_key

__all__ = ["Moved", "move_packs", "read_old", "read_outlines"]

# New packs on their way to the store; as many are read ahead, so both ways are busy and memory stays small.
_IN_FLIGHT = 2
_TAIL = 64 * 1024


@dataclass
class Moved:
    """What was moved: packs with their redirects, and the bytes of the frames that were copied."""

    redirects: dict[str, bytes] = field(default_factory=dict)
    bytes: int = 0


def read_old(objects: CollectObjects, name: PackName, listed: Listed) -> OldPack | None:
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


def read_outlines(objects: CollectObjects, name: PackName, old: OldPack, marks: Marks) -> bool:
    """Mark the outlines in a pack whose maps live; say whether there are any."""
    found = False
    for offset, length in old.outlines():
        with contextlib.suppress(CorruptError, FormatError):  # nobody reads it but who recovers a store
            found |= marks.outline(old, offset, objects.get_range(pack_key(name), offset, length))
    return found


def move_packs(
    objects: CollectObjects,
    marks: Marks,
    old: Iterable[tuple[PackName, OldPack]],
    push: str,
    in_time: Callable[[], bool],
) -> Moved:
    """Move what is marked in these packs; begin nothing new once it is not `in_time` any more.

    Raises:
        SapwoodError: what reading and writing raises; what was moved until then is so.
    """
    moved, mover = Moved(), Mover(push)
    pool = ThreadPoolExecutor(_IN_FLIGHT + 1, thread_name_prefix="sapwood-move")
    flying: list[Future[None]] = []

    def put(number: int, name: str, data: bytes) -> None:
        if not in_time():
            return
        objects.put(pack_key(PackName(name)), data)
        for pack, redirect in mover.stored(number):
            if not in_time():
                return
            with contextlib.suppress(ConflictError):  # another collector was faster; it condemns the pack
                objects.swap(moved_key(PackName(pack)), redirect, None)
                moved.redirects[pack] = redirect

    def send(pack: tuple[int, str, bytes]) -> None:
        flying.append(pool.submit(put, *pack))
        if len(flying) > _IN_FLIGHT:
            flying.pop(0).result()

    def read(name: PackName) -> tuple[list[tuple[int, int]], list[bytes]]:
        frames = marks.frames(name)
        return frames, objects.get_ranges(pack_key(name), frames)

    try:
        ahead: tuple[OldPack, Future[tuple[list[tuple[int, int]], list[bytes]]]] | None = None
        for pack in [*old, None]:
            reading = (pack[1], pool.submit(read, pack[0])) if pack and in_time() else None
            if ahead:
                frames, stored = ahead[1].result()
                with contextlib.suppress(CorruptError):  # its TOC and the maps disagree
                    for full in mover.add(ahead[0], frames, stored):
                        send(full)
                    moved.bytes += sum(map(len, stored))
            ahead = reading
        if last := mover.finish():
            send(last)
        for each in flying:
            each.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return moved
