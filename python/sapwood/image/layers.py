"""One layer of an image as an archive: by its TOC, if the manifest vouches for that, else by an index made here.

Invariant: a TOC is used only when the manifest names its digest; an index only when the whole layer was read for it
and had the layer's digest. Both are kept by that digest, and a TOC is proved again whenever it is read. Not here:
what layers are together (`image`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sapwood.archive import FileMap, Footer, open_toc
from sapwood.archive.seek import write_index
from sapwood.errors import CorruptError, FormatError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.image.manifest import Described
from sapwood.image.slices import Slice
from sapwood.image.streaming import Streamable, Streamed
from sapwood.progress import OnProgress
from sapwood.store.beside import Led, Ranges, open_index
from sapwood.store.requests import Requests
from sapwood.store.tocs import KeptTexts
from sapwood.tarsource import as_it_lies

__all__ = ["CHUNKED_TOC", "STARGZ_TOC", "Layer", "open_layer", "vouched_map", "wants_index"]

STARGZ_TOC = "containerd.io/snapshot/stargz/toc.digest"
CHUNKED_TOC = "io.github.containers.zstd-chunked.manifest-checksum"
# Its former name, which podman and buildah of Debian 12 write.
_CHUNKED_TOC_BEFORE = "io.containers.zstd-chunked.manifest-checksum"
# Compressed; it is taken into memory.
_MOST_OF_A_TOC = 1 << 30
_EDGE = 64 * 1024
# A plain layer of so many bytes is kept here whole: sooner than an index of it, it could be fetched again.
_SMALL = 8 << 20


@dataclass(frozen=True)
class Layer:
    """Its entries, and the bytes of their frames; each range with its lead before it, if it `is_led`."""

    digest: str
    ranges: Ranges
    file_map: FileMap
    is_led: bool

    @property
    def pack(self) -> str:
        """What its frames are known by."""
        return self.file_map.pages()[0].pack


def open_layer(blob: Described, ranges: Ranges, cache_dir: Path, progress: OnProgress | None = None) -> Layer:
    """Open a layer; `progress` is told of one that is read whole for its index.

    Raises:
        CorruptError: `image-corrupt`: it, or its TOC, is not what the manifest names; `archive-corrupt`: it is no tar.
        InvalidInputError: `archive-not-seekable`: it cannot be entered anywhere; `no-ranges`.
        NotFoundError, UnavailableError, DeniedError: it cannot be read, or what is kept of it not be written.
    """
    kept = KeptTexts(cache_dir, "layers")
    with _said_of(ranges.url):
        file_map = _by_toc(blob, ranges, kept)
        if file_map is not None:
            return Layer(blob.digest, ranges, file_map, is_led=False)
        return _by_index(blob, ranges, kept, progress)


def vouched_map(blob: Described, ranges: Ranges, cache_dir: Path) -> FileMap | None:
    """Return the file map that a layer's TOC is, None if the manifest vouches for none.

    Raises:
        SapwoodError: as `open_layer`.
    """
    with _said_of(ranges.url):
        return _by_toc(blob, ranges, KeptTexts(cache_dir, "layers"))


def wants_index(blob: Described, cache_dir: Path) -> bool:
    """Say whether a layer must be read whole to be opened, as far as its manifest tells."""
    is_told = STARGZ_TOC in blob.annotations or CHUNKED_TOC in blob.annotations
    index = KeptTexts(cache_dir, "layers").folder / f"{blob.digest.removeprefix('sha256:')}.index"
    return not is_told and not index.exists()


@contextlib.contextmanager
def _said_of(url: str):  # type: ignore[no-untyped-def]
    """Say of what the core finds wrong which layer it is."""
    try:
        yield
    except (CorruptError, FormatError, InvalidInputError) as error:
        if url in str(error):
            raise
        kind = "archive-corrupt" if error.kind == "damaged" else error.kind
        raise type(error)(f"{url}: {error}", kind=kind, hint=error.hint, address=url) from error


def _by_toc(blob: Described, ranges: Ranges, kept: KeptTexts) -> FileMap | None:
    """Return the file map that a TOC is for which the manifest vouches; None if it vouches for none."""
    stargz = blob.annotations.get(STARGZ_TOC)
    chunked = blob.annotations.get(CHUNKED_TOC) or blob.annotations.get(_CHUNKED_TOC_BEFORE)
    if stargz is None and chunked is None:
        return None
    name = blob.digest.removeprefix("sha256:")
    stored, footer_bytes = kept.look(f"{name}.toc"), kept.look(f"{name}.footer")
    if stored is not None and footer_bytes is not None:
        with contextlib.suppress(CorruptError, FormatError, InvalidInputError):
            footer = Footer.read(footer_bytes, ranges.size)
            if footer is not None and (file_map := _proved(footer, stored, stargz, chunked)) is not None:
                return file_map
        kept.remove(f"{name}.toc")
    footer = Footer.read(ranges.tail, ranges.size)
    if footer is None or footer.toc is None:
        return None
    offset, length = footer.toc
    if length > _MOST_OF_A_TOC:
        raise CorruptError(f"its TOC has {length} bytes compressed, more than 1 GiB", kind="archive-toc-too-large")
    tail = ranges.tail
    at = ranges.size - len(tail)
    [before] = ranges.read([(offset, min(length, at - offset))]) if offset < at else [b""]
    stored = before + tail[max(0, offset - at) :][: length - len(before)]
    file_map = _proved(footer, stored, stargz, chunked)
    if file_map is None:
        raise CorruptError("its TOC is another than the manifest names", kind="image-corrupt")
    kept.write(f"{name}.toc", stored)
    kept.write(f"{name}.footer", tail[-_FOOTER:])
    return file_map


# No footer is longer, as `Footer.read` knows them.
_FOOTER = 128


def _proved(footer: Footer, stored: bytes, stargz: str | None, chunked: str | None) -> FileMap | None:
    """Return the file map of a TOC, None if it is not the one that the manifest vouches for."""
    if chunked is not None and f"sha256:{hashlib.sha256(stored).hexdigest()}" == chunked:
        return open_toc(footer, stored, is_layer=True)[0]
    file_map, digest = open_toc(footer, stored, is_layer=True)
    return file_map if digest == stargz else None


def _by_index(blob: Described, ranges: Ranges, kept: KeptTexts, progress: OnProgress | None) -> Layer:
    name = blob.digest.removeprefix("sha256:")
    index, whole = kept.folder / f"{name}.index", kept.folder / f"{name}.blob"
    if not index.exists():
        _make(blob, ranges, kept, index, whole, progress)
    try:
        return _indexed(blob, ranges, index, whole)
    except (CorruptError, FormatError, NotFoundError):
        # What is kept is damaged, of another sapwood, or was given up meanwhile: it is made again, once.
        kept.remove(index.name)
        kept.remove(whole.name)
        _make(blob, ranges, kept, index, whole, progress)
        return _indexed(blob, ranges, index, whole)


def _indexed(blob: Described, ranges: Ranges, index: Path, whole: Path) -> Layer:
    # Of whatever in it is damaged no part is used: windows have no digests that are known before they are needed.
    sealed = Slice(os.fspath(index), is_kept=True)
    length = max(0, sealed.size - hashlib.sha256().digest_size)
    if _hash(sealed.at, length) != sealed.read([(length, sealed.size - length)])[0]:
        raise CorruptError("what is kept of it is damaged", kind="damaged")
    beside = Slice(os.fspath(index), size=length, is_kept=True)
    with contextlib.suppress(OSError):
        os.utime(index)
    opened = open_index(beside)
    local: Ranges = ranges
    with contextlib.suppress(SapwoodError):
        found = Slice(os.fspath(whole), is_kept=True)
        if found.size == blob.size and f"sha256:{_hash(found.at, found.size).hex()}" == blob.digest:
            local = found
    return Layer(blob.digest, Led(local, beside, opened), opened.file_map, is_led=True)


def _hash(read_at: Callable[[int, int], bytes], length: int) -> bytes:
    hashing = hashlib.sha256()
    for offset in range(0, length, _SMALL):
        hashing.update(read_at(offset, min(_SMALL, length - offset)))
    return hashing.digest()


def _make(
    blob: Described, ranges: Ranges, kept: KeptTexts, index: Path, whole: Path, progress: OnProgress | None
) -> None:
    """Read a layer from front to back, prove it, and keep its index; of a small one all of it."""
    if ranges.size == 0:
        raise CorruptError("it is empty, and a layer is not", kind="image-corrupt")
    try:
        kept.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        from sapwood.store.kept import named

        raise named(error, kept.folder) from error
    if ranges.size <= _SMALL and ranges.version == blob.digest:
        hashing = _Hashing(ranges)
        [data] = hashing.read([(0, ranges.size)])
        hashing.require(blob)
        kept.write(whole.name, data)
        _write(blob, _InMemory(ranges, data), index, progress)
    elif isinstance(ranges, Streamable):
        streamed = ranges.streamed()
        try:
            _write(blob, ranges, index, progress, streamed)
        finally:
            streamed.end()
    else:
        _write(blob, ranges, index, progress)
    kept.make_room(index.name)


def _write(
    blob: Described, ranges: Ranges, index: Path, progress: OnProgress | None, streamed: Streamed | None = None
) -> None:
    """Write the index of a layer that is read once, if it is the one that the manifest names."""
    [first] = ranges.read([(0, min(_EDGE, ranges.size))])
    ends = (ranges.size, first, ranges.tail)
    hashing = _Hashing(streamed or ranges)
    with _appearing(index) as out:
        with as_it_lies(hashing) as fed:
            try:
                write_index(
                    fed.fd,
                    ranges.url,
                    out,
                    index,
                    temporary=index.parent,
                    is_layer=True,
                    ends=ends,
                    progress=progress,
                )
            except SapwoodError:
                fed.check()
                raise
            fed.check()
        ranges.check()
        hashing.require(blob)
        length = os.fstat(out).st_size
        os.pwrite(out, _hash(lambda offset, count: os.pread(out, count, offset), length), length)


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[int]:
    """Give a file to be written, which has its name when all went well, and before that, where that can be, none."""
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        out = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        is_named = False
    except OSError:
        # As on some network's file system.
        out = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        is_named = True
    try:
        yield out
        if not is_named:
            # Only of one that is told where from does it follow.
            os.link(f"/proc/self/fd/{out}", temporary, src_dir_fd=out, follow_symlinks=True)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(out)


class _Hashing:
    """Ranges that are read one behind the other, once, and hashed."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._hash = hashlib.sha256()
        self._read = 0
        self.url, self.place, self.size, self.version = ranges.url, ranges.place, ranges.size, ranges.version
        self.requests: Requests = ranges.requests

    @property
    def tail(self) -> bytes:
        return self._ranges.tail

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        out = self._ranges.read(ranges)
        for (offset, length), data in zip(ranges, out, strict=True):
            assert offset == self._read
            self._hash.update(data)
            self._read += length
        return out

    def require(self, blob: Described) -> None:
        """Raise unless all of it was read, and is what the manifest names; what is behind the tar is read here."""
        while self._read < self.size:
            self.read([(self._read, min(_SMALL, self.size - self._read))])
        if (got := f"sha256:{self._hash.hexdigest()}") != blob.digest:
            raise CorruptError(f"its bytes hash to {got[:19]}, not {blob.digest[:19]}", kind="image-corrupt")

    def check(self) -> None:
        self._ranges.check()

    def reconnect(self) -> None:
        self._ranges.reconnect()


class _InMemory:
    """Ranges of bytes that are here."""

    def __init__(self, ranges: Ranges, data: bytes) -> None:
        self._data = data
        self.url, self.place, self.size, self.version = ranges.url, ranges.place, ranges.size, ranges.version
        self.requests: Requests = ranges.requests
        self.tail = data[-_EDGE:]

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        return [self._data[offset : offset + length] for offset, length in ranges]

    def check(self) -> None:
        """Do nothing: memory stays."""

    def reconnect(self) -> None:
        """Do nothing: there are no connections."""
