"""An archive as a place to read a tree from: a file, or an object that a server gives by range.

Promise: opening takes the last 64 KiB and, where it is longer, the TOC; then only what is asked for is read.
A file that changes under its readers is an error, never other bytes. Not here: what a TOC means (the core).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from sapwood.archive import FileMap, Footer, open_toc
from sapwood.digests import MapDigest, PackName, TreeDigest
from sapwood.errors import ConflictError, CorruptError, FormatError, InvalidInputError
from sapwood.store import faults
from sapwood.store.objects import open_objects
from sapwood.store.requests import Requests

if TYPE_CHECKING:
    from sapwood.store.remote import RemoteObjects

__all__ = ["Archive", "ArchiveTree", "names_archive", "open_archive"]

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst")
_TAIL = 64 * 1024


@dataclass(frozen=True)
class ArchiveTree:
    """What a snapshot says of a tree, as far as an archive says it; `map` is its TOC's digest."""

    tree: TreeDigest
    map: MapDigest


class _Ranges(Protocol):
    """An archive's bytes."""

    @property
    def url(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def tail(self) -> bytes:
        """Its last 64 KiB, or all."""
        ...

    @property
    def requests(self) -> Requests: ...
    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]: ...
    def check(self) -> None: ...


class Archive:
    """An open archive: its file map, and the bytes of its frames. Safe to use from several threads."""

    def __init__(self, ranges: _Ranges, file_map: FileMap) -> None:
        self._ranges = ranges
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
        self._ranges.check()


def names_archive(text: str) -> bool:
    """Say whether `text`, where it may be an address, names an archive."""
    return "#" not in text and text.endswith(_ENDINGS) and not text.startswith("oci://")


def open_archive(url: str) -> tuple[Archive, ArchiveTree]:
    """Open the archive at a path or URL.

    Raises:
        InvalidInputError: `archive-without-toc`; `bad-store-url`, `store-kind-unknown`.
        NotFoundError: `object-missing`.
        CorruptError: `damaged`: footer or TOC; an entry is named.
        FormatError: `format-newer`.
        UnavailableError, DeniedError: it cannot be read.
    """
    ranges: _Ranges = _Remote(url) if _is_remote(url) else _File(_path(url))
    size, tail = ranges.size, ranges.tail
    begin = size - len(tail)
    try:
        footer = Footer.read(tail, size)
        if footer is None or footer.toc is None:
            raise InvalidInputError(
                f"{url}: it has no TOC{'' if footer is None else ' of its own'}, so nothing in it can be found",
                kind="archive-without-toc",
                hint="unpack it and push that: sapwood push DIR STORE_URL#REF",
                address=url,
            )
        offset, length = footer.toc
        at = offset - begin
        stored = tail[at : at + length] if at >= 0 else ranges.read([(offset, length)])[0]
        file_map, digest = open_toc(footer, stored)
    except (CorruptError, FormatError) as error:
        raise type(error)(f"{url}: {error}", kind=error.kind, hint=error.hint, address=url) from error
    return Archive(ranges, file_map), ArchiveTree(TreeDigest(file_map.tree), MapDigest(digest))


def _is_remote(url: str) -> bool:
    return "://" in url and not url.startswith("file://")


def _path(url: str) -> str:
    path = unquote(urlsplit(url).path, errors="surrogateescape") if url.startswith("file://") else url
    return os.path.abspath(path)


class _File:
    """A file: what is replaced meanwhile goes on to be read as it was; what is written to is noticed."""

    def __init__(self, path: str) -> None:
        self.url = path
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
        self.tail, self.size, self._version = self._objects.tail(self._key, _TAIL)

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        try:
            return self._objects.get_ranges(self._key, ranges)
        except CorruptError:
            self.check()
            raise

    def check(self) -> None:
        if self._objects.stat(self._key) != (self.size, self._version):
            raise _changed(self.url)


def _changed(url: str) -> ConflictError:
    return ConflictError(
        f"{url}: it was changed since it was opened", kind="archive-changed", hint="open it again", address=url
    )
