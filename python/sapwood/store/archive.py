"""An archive as a place to read a tree from: a file, or an object that a server gives by range.

Promise: opening takes the last 64 KiB and, where it is longer, the TOC; then only what is asked for is read.
A file that changes under its readers is an error, never other bytes. Not here: what a TOC means (the core).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sapwood import places
from sapwood.archive import FileMap, Footer, open_toc
from sapwood.digests import MapDigest, PackName, TreeDigest
from sapwood.errors import ConflictError, CorruptError, DeniedError, FormatError, InvalidInputError, NotFoundError
from sapwood.store import faults
from sapwood.store.beside import ENDING, Led, Ranges, read_index
from sapwood.store.objects import open_objects
from sapwood.store.requests import Requests
from sapwood.store.tocs import KeptToc

if TYPE_CHECKING:
    from sapwood.store.remote import RemoteObjects

__all__ = ["Archive", "ArchiveTree", "names_archive", "open_archive", "open_ranges"]

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst")
_TAIL = 64 * 1024
# Compressed; it is taken into memory.
_MOST_OF_A_TOC = 1 << 30
_AGAIN = "get the archive again; if it is no better, its tar may be: sapwood convert ARCHIVE NEW.tar.gz"


@dataclass(frozen=True)
class ArchiveTree:
    """What a snapshot says of a tree, as far as an archive says it; `map` is its TOC's digest."""

    tree: TreeDigest
    map: MapDigest


class Archive:
    """An open archive: its file map, and the bytes of its frames. Safe to use from several threads."""

    def __init__(self, ranges: Ranges, file_map: FileMap, kept: KeptToc | None) -> None:
        self._ranges = ranges
        self._kept = kept
        self.file_map = file_map

    @property
    def url(self) -> str:
        """Where it is, as messages show it."""
        return self._ranges.url

    def requests(self) -> dict[str, int]:
        """Return how many requests were made so far, by verb."""
        return self._ranges.requests.so_far()

    def read_ranges(self, _: PackName, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length), in the order asked; unverified.

        Raises:
            ConflictError: `archive-changed`: it is no longer what was opened.
            NotFoundError, CorruptError, UnavailableError, DeniedError: as `ReadObjects.get_ranges`.
        """
        return self._ranges.read(ranges)

    def read_moved(self, _: PackName, offset: int, length: int, *, again: bool = False) -> None:  # noqa: ARG002 - a store's
        """Return None, for nothing is ever moved; a damaged frame is asked for here, so see whether it was changed.

        Raises:
            ConflictError: `archive-changed`.
        """
        if self._kept:
            self._kept.forget()
        self._ranges.check()


def names_archive(text: str) -> bool:
    """Say whether `text`, where it may be an address, names an archive."""
    return "#" not in text and text.endswith(_ENDINGS) and not text.startswith("oci://")


def open_archive(url: str, *, index: str | None = None, cache_dir: Path | None = None) -> tuple[Archive, ArchiveTree]:
    """Open the archive at a path or URL; a long TOC of a server's is kept in the cache, by default the user's.

    One whose TOC is missing, or cannot be used, is read by its seek index: `index`, a path or URL, else that beside it.

    Raises:
        InvalidInputError: `archive-without-toc`, `archive-chunk-too-large`; `bad-store-url`, `store-kind-unknown`.
        NotFoundError: `object-missing`.
        ConflictError: `archive-changed`: the index is that of another archive.
        CorruptError: `archive-corrupt`: footer or TOC, an entry is named; `archive-toc-too-large`; `index-corrupt`.
        FormatError: `format-newer`.
        UnavailableError, DeniedError: it cannot be read.
    """
    ranges = open_ranges(url)
    if index is not None:
        return _by_index(ranges, open_ranges(index))
    try:
        return _by_toc(url, ranges, cache_dir)
    except (CorruptError, FormatError, InvalidInputError):
        beside = _beside(url)
        if beside is None:
            raise
    return _by_index(ranges, beside)


def _by_toc(url: str, ranges: Ranges, cache_dir: Path | None) -> tuple[Archive, ArchiveTree]:
    with _said_of(url):
        footer = Footer.read(ranges.tail, ranges.size)
    if footer is None or footer.toc is None:
        raise InvalidInputError(
            f"{url}: it has no TOC{'' if footer is None else ' of its own'} and no index beside it, so nothing in it "
            "can be found",
            kind="archive-without-toc",
            hint=_remedy(url),
            address=url,
        )
    with _said_of(url):
        file_map, digest, kept = _open_toc(ranges, footer, footer.toc, cache_dir)
    return Archive(ranges, file_map, kept), ArchiveTree(TreeDigest(file_map.tree), MapDigest(digest))


def _by_index(ranges: Ranges, beside: Ranges) -> tuple[Archive, ArchiveTree]:
    index = read_index(ranges, beside)
    tree = ArchiveTree(TreeDigest(index.file_map.tree), MapDigest(index.digest))
    return Archive(Led(ranges, beside, index), index.file_map, None), tree


def _beside(url: str) -> Ranges | None:
    """Return the index beside an archive, if there is one. A bucket that may not be listed denies what is not there."""
    try:
        return open_ranges(url + ENDING)
    except (NotFoundError, DeniedError):
        return None


def _remedy(url: str) -> str:
    """Say how to come by an index."""
    if _is_remote(url):
        return f"fetch it, `sapwood index` that, and put the index beside it: {url}{ENDING}"
    return f"read it once, to keep an index beside it: sapwood index {url}"


@contextmanager
def _said_of(url: str) -> Iterator[None]:
    """Say of what the core finds wrong which archive it is, and what to do."""
    try:
        yield
    except (CorruptError, FormatError, InvalidInputError) as error:
        kind = "archive-corrupt" if error.kind == "damaged" else error.kind
        again = _remedy(url) if "no digest" in str(error) else _AGAIN
        hint = error.hint or (again if isinstance(error, CorruptError) else None)
        raise type(error)(f"{url}: {error}", kind=kind, hint=hint, address=url) from error


def _open_toc(
    ranges: Ranges, footer: Footer, at: tuple[int, int], cache_dir: Path | None
) -> tuple[FileMap, str, KeptToc | None]:
    """Return the file map, the TOC's digest, and where the TOC is kept."""
    offset, length = at
    if length > _MOST_OF_A_TOC:
        raise CorruptError(
            f"its TOC is too large: it has {length} bytes compressed, more than 1 GiB", kind="archive-toc-too-large"
        )
    in_tail = offset + len(ranges.tail) - ranges.size
    if in_tail >= 0:
        return *open_toc(footer, ranges.tail[in_tail : in_tail + length]), None
    kept = None
    if ranges.version:
        known = f"{ranges.url}\0{ranges.version}\0{ranges.size}"
        kept = KeptToc(cache_dir or places.cache_dir(), known, ranges.tail)
        if (stored := kept.read(length)) is not None:
            return *open_toc(footer, stored), kept
    [missing] = ranges.read([(offset, min(length, -in_tail))])
    stored = missing + ranges.tail[: length - len(missing)]
    opened = open_toc(footer, stored)
    if kept:
        kept.keep(stored)
    return *opened, kept


def open_ranges(url: str) -> Ranges:
    """Open what lies at a path or URL to be read by range; errors as `open_archive`."""
    return _Remote(url) if _is_remote(url) else _File(_path(url))


def _is_remote(url: str) -> bool:
    return "://" in url and not url.startswith("file://")


def _path(url: str) -> str:
    path = unquote(urlsplit(url).path, errors="surrogateescape") if url.startswith("file://") else url
    return os.path.abspath(path)


class _File:
    """A file: what is replaced meanwhile goes on to be read as it was; what is written to is noticed."""

    def __init__(self, path: str) -> None:
        self.url = path
        self.version = ""
        self.requests = Requests()
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise faults.from_os_error(error, *os.path.split(path)) from error
        self._state = self._look()
        self.size = self._state[0]
        begin = max(0, self.size - _TAIL)
        [self.tail] = self.read([(begin, self.size - begin)])

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def _look(self) -> tuple[int, int]:
        stat = os.fstat(self._file)
        return stat.st_size, stat.st_mtime_ns

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        self.requests.count("get", len(ranges))
        out = []
        try:
            for offset, length in ranges:
                data = os.pread(self._file, length, offset)
                while len(data) < length and (more := os.pread(self._file, length - len(data), offset + len(data))):
                    data += more
                out.append(data)
            self.check()
        except OSError as error:
            raise faults.from_os_error(error, *os.path.split(self.url)) from error
        return out

    def check(self) -> None:
        if self._look() != self._state:
            raise _changed(self.url)


class _Remote:
    """An object on a server."""

    def __init__(self, url: str) -> None:
        self.url = url
        folder, _, self._key = url.rpartition("/")
        self._objects: RemoteObjects = open_objects(folder)[0]  # type: ignore[assignment] # all that have a URL are
        self.requests = self._objects.requests
        self.tail, self.size, self.version = self._objects.tail(self._key, _TAIL)

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        try:
            return self._objects.get_ranges(self._key, ranges)
        except CorruptError:
            self.check()
            raise

    def check(self) -> None:
        if self._objects.stat(self._key) != (self.size, self.version):
            raise _changed(self.url)


def _changed(url: str) -> ConflictError:
    return ConflictError(
        f"{url}: it was changed since it was opened", kind="archive-changed", hint="open it again", address=url
    )
