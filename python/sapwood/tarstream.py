"""A tree of a store, or of an archive, as a tar stream: what `pack ADDRESS` makes an archive of.

Promise: every byte is proved by its chunk's digest before it is passed on; frames are fetched in the order of the
stream, a few MiB at a time. The order is that of `pack DIR`. Not here: the form of headers in the archive (the core).
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from sapwood._core.filemap import Entry, FileMap, Frame
from sapwood.fetch import fetch_all, load_map
from sapwood.progress import OnProgress, Progress

if TYPE_CHECKING:
    from sapwood.store.archive import Archive, ArchiveTree
    from sapwood.store.snapshot import Snapshot
    from sapwood.store.store import Store

__all__ = ["write_stream"]

# Plain bytes that are fetched at once.
_BATCH = 8 << 20
_BLOCK = 512
_TYPES = {
    "dir": tarfile.DIRTYPE,
    "reg": tarfile.REGTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}

_Chunk = tuple[Frame, int, str, int]


def write_stream(
    store: Store | Archive, tree: Snapshot | ArchiveTree, out: IO[bytes], *, progress: OnProgress | None = None
) -> None:
    """Write the tar stream of a tree to `out`.

    Raises:
        CorruptError, NotFoundError: something in the store is damaged or missing; it is named.
        UnavailableError, DeniedError: the store does not answer, or refuses to.
    """
    file_map = load_map(store, tree, pages=True)
    done, files = 0, 0

    def report(_: int) -> None:
        if progress is not None:
            progress(Progress(files, file_map.entries, done, file_map.bytes))

    batch = list[bytes | _Chunk]()
    size = 0
    for entry in _entries(file_map):
        files += 1
        for piece in _pieces(*entry):
            batch.append(piece)
            size += len(piece) if isinstance(piece, bytes) else piece[3]
            if size >= _BATCH:
                _write(store, file_map, batch, out, report)
                done += size
                batch, size = [], 0
    _write(store, file_map, [*batch, bytes(2 * _BLOCK)], out, report)


def _entries(file_map: FileMap) -> Iterator[tuple[Entry, Entry, bytes | None]]:
    """Yield each entry depth first, with that of its first name, and of a further name the one that came before."""
    root = file_map.lookup(b"")
    written = dict[bytes, bytes]()
    waiting = [root] if root is not None else []
    while waiting:
        entry = waiting.pop()
        first = entry
        if entry.kind == "hardlink" and entry.target is not None:
            first = file_map.lookup(entry.target) or entry
        before = None
        if first.links > 1 and first.kind != "dir":
            before = written.setdefault(first.path, entry.path)
        yield entry, first, None if before == entry.path else before
        if entry.kind == "dir":
            waiting.extend(reversed(file_map.list(entry.path)))


def _pieces(entry: Entry, first: Entry, before: bytes | None) -> Iterator[bytes | _Chunk]:
    """Yield headers, chunks and what fills the last block."""
    yield _header(entry, first, before)
    if first.kind == "reg" and before is None:
        yield from first.chunks
        yield bytes(-first.size % _BLOCK)


def _header(entry: Entry, first: Entry, before: bytes | None) -> bytes:
    """Return a header all of whose words and large numbers stand in a pax header before it."""
    seconds, nanoseconds = divmod(abs(first.mtime_ns), 1_000_000_000)
    sign = "-" if first.mtime_ns < 0 else ""
    size = first.size if first.kind == "reg" and before is None else 0
    words = {
        b"path": entry.path or b"./",
        b"mtime": f"{sign}{seconds}.{nanoseconds:09d}".encode(),
        b"uid": b"%d" % first.uid,
        b"gid": b"%d" % first.gid,
        b"size": b"%d" % size,
    }
    if before is not None:
        words[b"linkpath"] = before
    else:
        if first.kind == "symlink":
            words[b"linkpath"] = first.target or b""
        for name, value in first.xattrs.items():
            words[b"SCHILY.xattr." + name.replace(b"%", b"%25").replace(b"=", b"%3D")] = value
    records = b"".join(_record(key, value) for key, value in words.items())
    extension = tarfile.TarInfo("words")
    extension.type, extension.size = tarfile.XHDTYPE, len(records)
    info = tarfile.TarInfo("entry")
    info.type = _TYPES["hardlink" if before is not None else first.kind]
    info.mode = first.mode
    if first.device is not None:
        info.devmajor, info.devminor = first.device
    headers = [header.tobuf(tarfile.USTAR_FORMAT) for header in (extension, info)]
    return b"".join((headers[0], records, bytes(-len(records) % _BLOCK), headers[1]))


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE` and a line's end, whose length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _write(
    store: Store | Archive,
    file_map: FileMap,
    batch: list[bytes | _Chunk],
    out: IO[bytes],
    report: Callable[[int], None],
) -> None:
    """Fetch what a batch needs and write it."""
    wanted = dict[Frame, dict[tuple[int, str], int]]()
    for piece in batch:
        if not isinstance(piece, bytes):
            frame, inner, digest, size = piece
            wanted.setdefault(frame, {})[inner, digest] = size
    frames = _Frames(file_map, wanted)
    if wanted:
        fetch_all(store, frames, report)
    for piece in batch:
        out.write(piece if isinstance(piece, bytes) else frames.chunks[piece[2], piece[3]])


class _Frames:
    """Frames as a taker, and the chunks of them that are wanted, by digest and size."""

    def __init__(self, file_map: FileMap, wanted: dict[Frame, dict[tuple[int, str], int]]) -> None:
        self._map = file_map
        self.chunks = dict[tuple[str, int], bytes]()
        self._wanted = wanted
        self._left = sorted(wanted, reverse=True)
        self._lock = threading.Lock()

    def take(self, bytes: int) -> list[Frame]:  # noqa: A002 - the core's word
        with self._lock:
            taken = list[Frame]()
            while self._left and (not taken or bytes >= self._left[-1].length):
                taken.append(self._left.pop())
                bytes -= taken[-1].length  # noqa: A001
        return taken

    def deliver(self, frame: Frame, stored: bytes) -> None:
        for (inner, digest), size in self._wanted[frame].items():
            self.chunks[digest, size] = self._map.read_chunk(frame, stored, inner, digest, size)
