"""An archive as a place to read a tree from: a file, or an object that a server gives by range.

Promise: opening takes the last 64 KiB and, where it is longer, the TOC; then only what is asked for is read.
A file that changes under its readers is an error, never other bytes. Not here: what a TOC means (the core).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sapwood import places
from sapwood.archive import FileMap, Footer, open_toc
from sapwood.digests import MapDigest, PackName, TreeDigest
from sapwood.errors import ConflictError, CorruptError, DeniedError, FormatError, InvalidInputError, NotFoundError
from sapwood.store import faults
from sapwood.store.beside import ENDING, Led, Ranges, read_index
from sapwood.store.naming import FIRST, begins_as, is_remote, local_path, split, without_query
from sapwood.store.objects import open_objects
from sapwood.store.requests import Requests
from sapwood.store.tocs import KeptTexts, KeptToc

if TYPE_CHECKING:
    from sapwood.store.remote import RemoteObjects

__all__ = ["Archive", "ArchiveTree", "open_archive", "open_ranges"]

_TAIL = 64 * 1024
# Compressed; it is taken into memory.
_MOST_OF_A_TOC = 1 << 30
_AGAIN = "get the archive again; if it is no better, its tar may be: sapwood convert ARCHIVE NEW.tar.gz"
# What of a URL says who may read until when: Amazon's, Google's, CloudFront's, Azure's.
_SIGNATURE = re.compile(
    r"(x-amz-|x-goog-|(signature|expires|awsaccesskeyid|googleaccessid|policy|key-pair-id|s[a-z]|sk[a-z]+|sig|spr|sip)=|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ArchiveTree:
    """What a snapshot says of a tree, as far as an archive says it; `map` is its TOC's digest.

    `pinned` is the address of an image that will mean it when its tag means another; else None.
    """

    tree: TreeDigest
    map: MapDigest
    pinned: str | None = None


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

    def where(self, _: PackName) -> str:
        """Return what messages show of where a pack lies."""
        return self.url

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

    def reconnect(self) -> None:
        """Ask by new connections from now on."""
        self._ranges.reconnect()


def open_archive(
    url: str, *, toc: str | None = None, index: str | None = None, cache_dir: Path | None = None
) -> tuple[Archive, ArchiveTree]:
    """Open the archive at a path or URL; a long TOC or index of a server's is kept in the cache, by default
    the user's.

    `toc` is the path or URL of the TOC of an archive that has it elsewhere. One whose TOC is missing, or cannot be
    used, is read by its seek index: `index`, a path or URL, else that beside it. Where that cannot be used, neither,
    the error is about the archive, with a note about the index; of a file without TOC it is about the index.

    Raises:
        InvalidInputError: `no-archive`; `archive-without-toc`, `archive-not-seekable`, `archive-chunk-too-large`,
            `toc-elsewhere`; `bad-store-url`, `store-kind-unknown`.
        NotFoundError: `object-missing`.
        ConflictError: `archive-changed`: the index is that of another archive.
        CorruptError: `archive-corrupt`: footer or TOC, an entry is named; `archive-toc-too-large`; `index-corrupt`.
        FormatError: `format-newer`.
        UnavailableError, DeniedError: it cannot be read.
    """
    ranges = open_ranges(url)
    if index is not None:
        return _by_index(ranges, open_ranges(index), cache_dir)
    try:
        return _by_toc(without_query(url), ranges, toc, cache_dir)
    except (CorruptError, FormatError, InvalidInputError) as error:
        if toc is not None:
            raise
        try:
            if (beside := _beside(url)) is not None:
                return _by_index(ranges, beside, cache_dir)
        except (CorruptError, InvalidInputError) as unusable:
            # Here it is an index, for so it is called; a server may send a page for whatever it has not.
            if error.kind == "archive-without-toc" and not is_remote(url):
                raise
            error.add_note(f"nor is it read by {without_query(url)}{ENDING}: {unusable}")
        if error.kind == "archive-without-toc":
            _require_seekable(without_query(url), ranges)
        raise


def _require_seekable(shown: str, ranges: Ranges) -> None:
    """Raise of a file without TOC what it is, where no index helps."""
    [first] = [ranges.tail] if len(ranges.tail) == ranges.size else ranges.read([(0, FIRST)])
    what = begins_as(first[:FIRST])
    if what is None:
        raise InvalidInputError(
            f"{shown} is no archive: it begins neither as a tar nor as gzip or zstd does",
            kind="no-archive",
            address=shown,
        )
    if what in ("xz", "bzip2"):
        raise InvalidInputError(
            f"{shown}: {what} cannot be entered in its middle, so nothing in it is read without what is before it",
            kind="archive-not-seekable",
            hint=f"make an archive of it: sapwood convert {shown} NEW.tar.gz",
            address=shown,
        )


def _by_toc(shown: str, ranges: Ranges, toc: str | None, cache_dir: Path | None) -> tuple[Archive, ArchiveTree]:
    with _said_of(shown):
        footer = Footer.read(ranges.tail, ranges.size)
    if footer is None:
        raise InvalidInputError(
            f"{shown}: it has no TOC and no index beside it, so nothing in it can be found",
            kind="archive-without-toc",
            hint=_remedy(shown),
            address=shown,
        )
    if footer.toc is None and toc is None:
        raise InvalidInputError(
            f"{shown}: it has its TOC elsewhere, and where was not said",
            kind="toc-elsewhere",
            hint="name the TOC: --toc FILE_OR_URL",
            address=shown,
        )
    if footer.toc is not None and toc is not None:
        raise InvalidInputError(
            f"{shown}: it has a TOC of its own, and reads by no other", kind="toc-elsewhere", hint="leave out --toc"
        )
    beside = open_ranges(toc) if toc is not None else ranges
    with _said_of(beside.url):
        file_map, digest, kept = _open_toc(beside, footer, footer.toc or (0, beside.size), cache_dir)
    return Archive(ranges, file_map, kept), ArchiveTree(TreeDigest(file_map.tree), MapDigest(digest))


def _by_index(ranges: Ranges, beside: Ranges, cache_dir: Path | None) -> tuple[Archive, ArchiveTree]:
    index = read_index(ranges, beside, KeptTexts(cache_dir or places.cache_dir()) if is_remote(beside.url) else None)
    tree = ArchiveTree(TreeDigest(index.file_map.tree), MapDigest(index.digest))
    return Archive(Led(ranges, beside, index), index.file_map, None), tree


def _beside(url: str) -> Ranges | None:
    """Return the index beside an archive, if there is one."""
    if split(url)[1]:
        return None  # whatever is signed is one object
    try:
        return open_ranges(url + ENDING)
    except NotFoundError:
        return None
    except DeniedError:
        if is_remote(url):
            return None  # a bucket that may not be listed denies what is not there
        raise


def _remedy(url: str) -> str:
    """Say how to come by an index."""
    if is_remote(url):
        return f"read it once, to keep an index here: sapwood index {url} --output FILE; then say --seek-index FILE"
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
        known = f"{ranges.place}\0{ranges.version}\0{ranges.size}"
        kept = KeptToc(cache_dir or places.cache_dir(), known, ranges.tail)
        if (found := kept.read()) is not None:
            with contextlib.suppress(CorruptError, FormatError):
                file_map, digest = open_toc(footer, found[1])
                if digest == found[0]:
                    return file_map, digest, kept
            kept.forget()
            del found
    # One copy: it may be most of the memory that opening takes.
    before = min(length, -in_tail) if ranges.version else length
    [stored] = ranges.read([(offset, before)])
    if before < length:
        stored += ranges.tail[: length - before]
    opened = open_toc(footer, stored)
    if kept:
        kept.keep(opened[1], stored)
    return *opened, kept


def open_ranges(url: str) -> Ranges:
    """Open what lies at a path or URL to be read by range; errors as `open_archive`."""
    if is_remote(url):
        return _Remote(url)
    return _File(local_path(url))


class _File:
    """A file: what is replaced meanwhile goes on to be read as it was; what is written to is noticed."""

    def __init__(self, path: str) -> None:
        self.url = self.place = path
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

    def reconnect(self) -> None:
        """Do nothing: there are no connections."""


class _Remote:
    """An object on a server."""

    def __init__(self, url: str) -> None:
        self.url = without_query(url)
        place, query = split(url)
        folder, _, self._key = place.rpartition("/")
        fields = [field for field in query.split("&") if not _SIGNATURE.match(field)]
        self.place = "?".join([place, *fields])
        self._objects = _objects(folder, url)
        self.requests = self._objects.requests
        self.tail, self.size, self.version = self._objects.tail(self._key, _TAIL)

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        try:
            return self._objects.get_ranges(self._key, ranges)
        except CorruptError:
            self.check()
            raise

    def check(self) -> None:
        # What is signed for GET is refused to HEAD.
        _, size, version = self._objects.tail(self._key, 1)
        if (size, version) != (self.size, self.version):
            raise _changed(self.url)

    def reconnect(self) -> None:
        self._objects.reconnect()


def _objects(folder: str, url: str) -> RemoteObjects:
    objects: RemoteObjects = open_objects(folder)[0]  # type: ignore[assignment] # all that have a URL are
    if not url.startswith(("http://", "https://")):
        return objects
    from sapwood.store.http import HttpObjects

    return HttpObjects(objects.url, url)


def _changed(url: str) -> ConflictError:
    return ConflictError(
        f"{url}: it was changed since it was opened", kind="archive-changed", hint="open it again", address=url
    )
