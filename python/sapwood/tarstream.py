"""A tree of a store, or of an archive, as a tar stream: what `pack ADDRESS` makes an archive of, and `tar` gives back.

Promise: every byte is proved by its chunk's digest before it is passed on; frames are fetched in the order of the
stream, a few MiB at a time. The order is that of `pack DIR`; a stream that is made again is proved whole at its end.
Not here: the form of headers, what split metadata means (the core). Bytes: docs/archive.md.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from sapwood._core.filemap import Entry, FileMap, Frame, read_chunk, sparse_parts, tar_header
from sapwood.errors import CorruptError
from sapwood.fetch import Pages, bring_pages, fetch_all, load_map, located
from sapwood.progress import OnProgress, Progress
from sapwood.store.archive import Archive, ArchiveTree

if TYPE_CHECKING:
    from sapwood.store.snapshot import Snapshot
    from sapwood.store.store import Store

__all__ = [
    "Entry",
    "Sink",
    "Told",
    "Window",
    "entries_of",
    "told_header",
    "write_chunks",
    "write_entries",
    "write_files",
    "write_stream",
    "write_tar",
]

# Plain bytes that are fetched at once.
_BATCH = 8 << 20
_BLOCK = 512
# From this size on a header says it otherwise.
_OCTAL = 8 << 30
# Pages of split metadata, of at most half a MiB each.
_PAGES = 16
# Pages of the file map: so many are brought at a time, and so many are kept, of some 1,000 entries each.
_AHEAD = 32
_KEPT = 64

# `docker build -` takes for a tar only what it can tell by the first 1,024 bytes; those of an entry with a time more
# exact than a second end too late. A global header is an entry of its own; git archive begins with one, too.
_SAYS = b"19 comment=sapwood\n"

_Chunk = tuple[Frame, int, str, int]
_Range = tuple[int, int]
_Part = bytes | tuple[_Chunk, list[_Range]]


class Sink(Protocol):
    """Where a tar goes."""

    def write(self, data: bytes, /) -> int: ...


_Read = Callable[[Frame, bytes, list[tuple[int, str, int]]], list[bytes]]


@dataclass(frozen=True)
class Told:
    """A tar that was written. `exact`: it is proved to be the one that was pushed; else it has the form of `pack`."""

    digest: str
    size: int
    exact: bool


def write_stream(
    store: Store | Archive,
    tree: Snapshot | ArchiveTree,
    out: IO[bytes],
    *,
    leaves_out: Collection[bytes] = (),
    progress: OnProgress | None = None,
) -> None:
    """Write the tar stream of a tree to `out`, for `archive.write.convert`: holes are said as GNU tar says them.

    `leaves_out` has the paths of what is not to be in it; of a file with several names the others stay.

    Raises:
        CorruptError, NotFoundError: something in the store is damaged or missing; it is named.
        UnavailableError, DeniedError: the store does not answer, or refuses to.
    """
    write_entries(store, load_map(store, tree, pages=False), out, progress, holes=True, leaves_out=leaves_out)


def write_tar(
    store: Store | Archive,
    tree: Snapshot | ArchiveTree,
    out: IO[bytes],
    *,
    before: bytes = b"",
    leaves_out: Collection[bytes] = (),
    progress: OnProgress | None = None,
) -> Told:
    """Write the tar that a tree was pushed as to `out`, or, of a tree that was pushed as none, the stream of `pack`.

    Before that stream comes a global header, by which docker knows it for a tar. With more members `before` it, where
    the paths `leaves_out` are not to be in it, it is always that stream.

    What was written is proved only when this returns.

    Raises:
        CorruptError: `damaged`: what was written is not the tar that was pushed; or as `write_stream`.
        NotFoundError, UnavailableError, DeniedError: as `write_stream`.
    """
    file_map = load_map(store, tree, pages=False)
    proved = _Proved(out)
    if file_map.tar is None or before:
        proved.write(_global_header() + before)
        write_entries(store, file_map, proved, progress, holes=False, leaves_out=leaves_out)
        return Told(proved.digest, proved.size, exact=False)
    bring_pages(store, file_map, range(len(file_map.pages())))
    _write_splits(store, file_map, proved, progress)
    if (proved.digest, proved.size) != file_map.tar:
        raise CorruptError(
            f"{store.url}: the tar of tree {file_map.tree[:19]} is {file_map.tar[0][:19]},"
            f" and what was written hashes to {proved.digest[:19]}",
            kind="damaged",
            hint=f"sapwood verify --read-data {store.url}",
            digest=file_map.tar[0],
        )
    return Told(proved.digest, proved.size, exact=True)


def write_chunks(store: Store, chunks: Iterable[_Chunk], out: IO[bytes], report: Callable[[int], None]) -> None:
    """Write chunks of a store one after the other; errors as `write_stream`."""

    def read(frame: Frame, stored: bytes, wanted: list[tuple[int, str, int]]) -> list[bytes]:
        return [read_chunk(frame, stored, *chunk) for chunk in wanted]

    batches = _Batches(store, read, out, report)
    for chunk in chunks:
        batches.chunk(chunk, None)
    batches.flush()


class _Proved:
    """Passes on what is written, and knows its digest."""

    def __init__(self, out: IO[bytes] | _Proved) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        self.size += len(data)
        left = memoryview(data)
        while left:  # a pipe may take less at a time
            left = left[self._out.write(left) :]
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def write_files(
    store: Store | Archive,
    file_map: FileMap,
    parts: Iterable[bytes | Entry],
    out: Sink,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Write bytes, and contents of files, one after the other; errors as `write_stream`."""
    batches = _Batches(store, file_map.read_chunks, out, report)
    for part in parts:
        if isinstance(part, bytes):
            batches.bytes(part)
        else:
            for chunk in part.chunks:
                batches.chunk(chunk, None)
    batches.flush()


def write_entries(
    store: Store | Archive,
    file_map: FileMap,
    out: Sink,
    progress: OnProgress | None,
    *,
    holes: bool,
    leaves_out: Collection[bytes] = (),
    is_all: bool = True,
    told: tuple[bytes, Container[tuple[str, int]]] = (b"", ()),
) -> None:
    """Write the entries of a tree; if they are all, the end of the tar too. Errors as `write_stream`.

    Of the contents, by digest and size, that are `told` by an attribute of that name, only that is written.
    """
    files = 0
    attribute, known = told

    def report(_: int) -> None:
        if progress is not None:
            progress(Progress(files, file_map.entries, batches.done, file_map.bytes))

    batches = _Batches(store, file_map.read_chunks, out, report)
    for entry, first, before in entries_of(Window(store, file_map), leaves_out):
        files += 1
        if holes and before is None and (parts := sparse_parts(entry, first)):
            batches.parts(parts)
            continue
        header = tar_header(entry, first, before)
        is_file = first.kind == "reg" and before is None
        if is_file and first.digest is not None and (first.digest, first.size) in known and first.size < _OCTAL:
            batches.bytes(told_header(header, attribute, first.digest, first.size))
            continue
        batches.bytes(header)
        if is_file:
            for chunk in first.chunks:
                batches.chunk(chunk, None)
            batches.bytes(bytes(-first.size % _BLOCK))
    if is_all:
        batches.bytes(bytes(2 * _BLOCK))
    batches.flush()


def _global_header() -> bytes:
    name, octal = b"pax_global_header".ljust(100, b"\0"), b"0000644\0" + 2 * b"0000000\0"
    sizes = b"%011o\0" % len(_SAYS) + b"0" * 11 + b"\0"
    before, after = name + octal + sizes, b"g" + bytes(100) + b"ustar\x0000"
    summed = sum(before) + sum(after) + 8 * ord(" ")
    return (before + b"%06o\0 " % summed + after).ljust(_BLOCK, b"\0") + _SAYS.ljust(_BLOCK, b"\0")


def told_header(header: bytes, attribute: bytes, digest: str, size: int) -> bytes:
    """Return the header of a file as one that is empty, and says in an attribute what content it has."""
    said, end = b"", len(header) - _BLOCK
    if end:
        length = int(header[124:135], 8)
        said = header[_BLOCK : _BLOCK + length]
    said += _record(b"SCHILY.xattr." + attribute, f"{digest}/{size}".encode())
    pax = _summed(b"PaxHeaders/told".ljust(100, b"\0"), len(said), b"x", header)
    last = header[end:]
    return pax + said + bytes(-len(said) % _BLOCK) + _summed(last[:100], 0, last[156:157], last)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _summed(name: bytes, size: int, kind: bytes, like: bytes) -> bytes:
    """Return a header block like another."""
    before = name + like[100:124] + b"%011o\0" % size + like[136:148]
    after = kind + like[157:_BLOCK]
    return before + b"%06o\0 " % (sum(before) + sum(after) + 8 * 32) + after


def _write_splits(store: Store | Archive, file_map: FileMap, out: _Proved, progress: OnProgress | None) -> None:
    total = file_map.tar[1] if file_map.tar else 0

    def report(_: int) -> None:
        if progress is not None:
            progress(Progress(0, 0, out.size, total))

    batches = _Batches(store, file_map.read_chunks, out, report)
    first, frames = len(file_map.pages()), file_map.stored_pages()
    for begin in range(first, len(frames), _PAGES):
        numbers = range(begin, min(begin + _PAGES, len(frames)))
        stored = dict[Frame, bytes]()

        def add(number: int, page: bytes, stored: dict[Frame, bytes] = stored) -> None:
            file_map.add_page(number, page)
            stored[frames[number]] = page

        # Equal ones are one.
        fetch_all(store, Pages(add, {frames[number]: number for number in numbers}), report)
        for number in numbers:
            with located(store.url):
                parts = file_map.tar_parts(number - first, stored[frames[number]])
            batches.parts(parts)
    batches.flush()


class Window:
    """A file map of which a bounded number of pages is in memory: those about what was asked for last."""

    def __init__(self, store: Store | Archive, file_map: FileMap) -> None:
        self._store = store
        self._map = file_map
        self._pages = len(file_map.pages())
        self._held = set[int]()

    def children(self, path: bytes) -> Iterator[Entry]:
        """Yield the entries of a directory, in order of their names."""
        for page in range(*self._map.pages_of(path)):
            yield from self._with(page).list_page(path, page)

    def lookup(self, path: bytes) -> Entry | None:
        for page in self._map.missing(path, children=False):
            self._with(page)
        return self._map.lookup(path)

    def _with(self, page: int) -> FileMap:
        if page not in self._held:
            if len(self._held) >= _KEPT:
                self._map = self._map.emptied()
                self._held.clear()
            ahead = set(range(page, min(page + _AHEAD, self._pages))) - self._held
            if not isinstance(self._store, Archive):  # whose pages are there
                bring_pages(self._store, self._map, ahead)
            self._held |= ahead
        return self._map


def entries_of(file_map: Window, leaves_out: Collection[bytes] = ()) -> Iterator[tuple[Entry, Entry, bytes | None]]:
    """Yield each entry depth first, with that of its first name, and of a further name the one that came before."""
    root = file_map.lookup(b"")
    written = dict[bytes, bytes]()
    waiting = [iter([root] if root is not None else [])]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        if entry.path in leaves_out:
            continue
        first = entry
        if entry.kind == "hardlink" and entry.target is not None:
            first = file_map.lookup(entry.target) or entry
        before = None
        if first.links > 1 and first.kind != "dir":
            before = written.setdefault(first.path, entry.path)
        yield entry, first, None if before == entry.path else before
        if entry.kind == "dir":
            waiting.append(file_map.children(entry.path))


class _Batches:
    """Gathers bytes and chunks in the order of a stream; fetches and writes them when they are some MiB."""

    def __init__(self, store: Store | Archive, read: _Read, out: Sink, report: Callable[[int], None]) -> None:
        self._store = store
        self._read = read
        self._out = out
        self._report = report
        self._parts = list[bytes | tuple[_Chunk, list[_Range] | None]]()
        self._size = 0
        self.done = 0

    def bytes(self, data: bytes) -> None:
        self._parts.append(data)
        self._grow(len(data))

    def chunk(self, chunk: _Chunk, ranges: list[_Range] | None) -> None:
        """Add a chunk, or these ranges of it."""
        self._parts.append((chunk, ranges))
        self._grow(chunk[3])

    def parts(self, parts: Iterable[_Part]) -> None:
        for part in parts:
            if isinstance(part, bytes):
                self.bytes(part)
            else:
                self.chunk(*part)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size >= _BATCH:
            self.flush()

    def flush(self) -> None:
        wanted = dict[Frame, dict[tuple[int, str, int], None]]()
        for part in self._parts:
            if isinstance(part, tuple):
                (frame, inner, digest, size), _ = part
                wanted.setdefault(frame, {})[inner, digest, size] = None
        frames = _Frames({frame: list(chunks) for frame, chunks in wanted.items()}, self._read)
        if wanted:
            fetch_all(self._store, frames, self._report)
        pieces = list[bytes | memoryview]()
        for part in self._parts:
            if isinstance(part, tuple):
                (_, _, digest, size), ranges = part
                data = memoryview(frames.chunks[digest, size])
                pieces += [data[begin:end] for begin, end in ([(0, size)] if ranges is None else ranges)]
            else:
                pieces.append(part)
        self._out.write(b"".join(pieces))
        self.done += self._size
        self._parts, self._size = [], 0


class _Frames:
    """Frames as a taker, and the chunks of them that are wanted, by digest and size."""

    def __init__(self, wanted: dict[Frame, list[tuple[int, str, int]]], read: _Read) -> None:
        self.chunks = dict[tuple[str, int], bytes]()
        self._wanted = wanted
        self._read = read
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
        wanted = self._wanted[frame]
        for (_, digest, size), chunk in zip(wanted, self._read(frame, stored, wanted), strict=True):
            self.chunks[digest, size] = chunk
