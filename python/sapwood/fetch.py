"""Frames out of a store: what a pull and a mount want, fetched in few requests, several at a time.

Promise: frames that lie together come by one request; a frame that arrives damaged is fetched once more before that is
an error; the first error ends the work of all; Ctrl-C in the waiting thread is out at once.
Not here: what is wanted and in what order (the core), how a store is read (`store`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeVar

from sapwood._core.filemap import FileMap, Frame
from sapwood.digests import PackName
from sapwood.errors import CorruptError, FormatError, SapwoodError, StoppedError
from sapwood.store.archive import Archive, ArchiveTree
from sapwood.store.keys import map_key, pack_key
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store

__all__ = [
    "Fetched",
    "Pages",
    "Ranged",
    "Taker",
    "bring_pages",
    "fetch_all",
    "from_elsewhere",
    "in_pack",
    "load_map",
    "located",
    "read_frames",
]

# One request at 100 Mbit/s and 20 ms brings a round trip's worth in 250 KB; four keep such a link full.
_FETCHERS = 4
# Of packs, a request.
_BATCH_BYTES = 1 << 20


Proved = TypeVar("Proved")


class Taker(Protocol):
    """What wants frames: `take` names the next ones, about so many bytes, none at the end; `deliver` takes one."""

    def take(self, bytes: int) -> list[Frame]: ...  # noqa: A002 - the core's word
    def deliver(self, frame: Frame, stored: bytes) -> None: ...


@dataclass
class Fetched:
    """How much was fetched, in requests and bytes."""

    requests: int = 0
    bytes: int = 0


class Ranged(Protocol):
    """What gives bytes of packs; see `Store.read_ranges`."""

    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]], /) -> list[bytes]: ...


def read_frames(store: Ranged, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bytes]]:
    """Yield each frame with its bytes, unproved; one request for each pack, in the order of packs and offsets.

    Raises:
        NotFoundError: `pack-missing`.
        CorruptError: `object-short`.
        UnavailableError, DeniedError: the store does not answer, or refuses to.
    """
    for pack, group in groupby(sorted(frames), key=lambda frame: frame.pack):
        wanted = list(group)
        ranges = [(frame.offset, frame.length) for frame in wanted]
        yield from zip(wanted, store.read_ranges(PackName(pack), ranges), strict=True)


def _deliver(store: Store | Archive, taker: Taker, frame: Frame, stored: bytes) -> None:
    """Hand a frame over; one that arrived damaged is fetched once more, for the way may be to blame, not the store.

    The third and last time it is fetched from where it was moved to, if it was.

    Raises:
        CorruptError, FormatError: what `taker` says of the last, with the place of the frame.
    """
    try:
        return taker.deliver(frame, stored)
    except (CorruptError, FormatError):
        [(_, again)] = read_frames(store, [frame])
    with in_pack(store, frame):
        try:
            return taker.deliver(frame, again)
        except (CorruptError, FormatError) as error:
            return from_elsewhere(store, frame, lambda moved: taker.deliver(frame, moved), error)


def from_elsewhere(
    store: Store | Archive, frame: Frame, prove: Callable[[bytes], Proved], error: SapwoodError
) -> Proved:
    """Return what `prove` makes of a frame from where it was moved to; raise `error` if it was not.

    Raises:
        CorruptError, FormatError: what `prove` says of the last.
    """
    moved = store.read_moved(PackName(frame.pack), frame.offset, frame.length)
    if moved is None:
        raise error
    try:
        return prove(moved)
    except (CorruptError, FormatError):
        # It may have been healed since this process learned where it was moved to.
        healed = store.read_moved(PackName(frame.pack), frame.offset, frame.length, again=True)
        if healed is None or healed == moved:
            # Or its pack may have been put back.
            [(_, healed)] = read_frames(store, [frame])
        return prove(healed)


@contextmanager
def located(where: str, hint: str | None = None, **context: object) -> Iterator[None]:
    """Say of what the core finds wrong with stored bytes where they are, and, as `hint`, how to heal it."""
    try:
        yield
    except (CorruptError, FormatError) as error:
        raise type(error)(f"{where}: {error}", kind=error.kind, hint=error.hint or hint, **context) from error


def in_pack(store: Store | Archive, frame: Frame) -> AbstractContextManager[None]:
    """Locate what is wrong with a frame of a pack, or of an archive."""
    if isinstance(store, Archive):
        return _in_archive(store, frame)
    key = pack_key(PackName(frame.pack))
    return located(f"{store.url}: {key}", _healing(store), pack=frame.pack, store=store.url)


@contextmanager
def _in_archive(archive: Archive, frame: Frame) -> Iterator[None]:
    where = archive.where(PackName(frame.pack))
    with located(f"{where} at {frame.offset}", "get the archive again", address=archive.url):
        try:
            yield
        except CorruptError as error:
            if error.kind != "damaged":
                raise
            raise CorruptError(str(error), kind="archive-corrupt") from error


def _healing(store: Store) -> str:
    return f"sapwood repair {store.url}, --from a directory or a store that has what is lost, if one has"


def fetch_all(store: Store | Archive, taker: Taker, report: Callable[[int], None]) -> Fetched:
    """Fetch until `taker` wants no more; `report` gets the bytes fetched so far, in the calling thread.

    Raises:
        SapwoodError: the first error of any fetch or delivery.
    """
    total, lock = Fetched(), threading.Lock()
    errors: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set() and (frames := taker.take(_BATCH_BYTES)):
                for frame, stored in read_frames(store, frames):
                    if stop.is_set():
                        return
                    _deliver(store, taker, frame, stored)
                    with lock:
                        total.bytes += len(stored)
                with lock:
                    total.requests += len({frame.pack for frame in frames})
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            errors.append(error)
            stop.set()

    # Daemons: an interrupted caller does not wait for replies that nobody wants any more.
    threads = [threading.Thread(target=work, daemon=True, name="sapwood-fetch") for _ in range(_FETCHERS)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                report(total.bytes)
    finally:
        stop.set()
    if errors:
        # Who was stopped was so because of what another one met.
        raise next((error for error in errors if not isinstance(error, StoppedError)), errors[0])
    return total


def load_map(
    store: Store | Archive, snapshot: Snapshot | ArchiveTree, *, pages: bool, stored: bytes | None = None
) -> FileMap:
    """Return the file map of a snapshot, with all its pages if `pages`; `stored` is what the store has of it, if known.

    Raises:
        NotFoundError: `map-missing`, `pack-missing`.
        CorruptError: `damaged`, `chunk-corrupt`.
        FormatError: `format-newer`.
    """
    if isinstance(store, Archive):
        return store.file_map
    assert isinstance(snapshot, Snapshot)  # of an archive only an archive's
    stored = stored or store.read_map(snapshot.map)
    key = map_key(snapshot.map)
    with located(f"{store.url}: {key}", _healing(store), store=store.url, digest=snapshot.map):
        file_map = FileMap(stored, snapshot.map, snapshot.map_size)
    if file_map.tree != snapshot.tree:
        raise CorruptError(
            f"{store.url}: {key}: the file map of snapshot {snapshot.digest[:19]} is of another tree",
            kind="damaged",
            hint=_healing(store),
            store=store.url,
            digest=snapshot.map,
        )
    if pages:
        bring_pages(store, file_map, range(len(file_map.pages())))
    return file_map


def bring_pages(store: Store | Archive, file_map: FileMap, wanted: Iterable[int]) -> None:
    """Fetch pages of a file map; errors as `load_map`."""
    frames = file_map.pages()
    pages = Pages(file_map.add_page, {frames[page]: page for page in wanted})
    fetch_all(store, pages, lambda _: None)


class Pages:
    """Pages of a file map as a taker: by their frames, each is given to `add` by its number, with its stored bytes."""

    def __init__(self, add: Callable[[int, bytes], None], numbers: dict[Frame, int]) -> None:
        self._add = add
        self._numbers = numbers
        self._left = sorted(numbers, reverse=True)
        self._lock = threading.Lock()

    def take(self, bytes: int) -> list[Frame]:  # noqa: A002 - the core's word
        with self._lock:
            batch = list[Frame]()
            while self._left and (not batch or bytes >= self._left[-1].length):
                batch.append(self._left.pop())
                bytes -= batch[-1].length  # noqa: A001
        return batch

    def deliver(self, frame: Frame, stored: bytes) -> None:
        self._add(self._numbers[frame], stored)
