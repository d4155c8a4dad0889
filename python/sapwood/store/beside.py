"""An archive that is read by the seek index beside it.

Promise: the index is whole and of this very archive, or that is an error; each frame comes with its lead, which the
core needs to enter the archive there. Not here: where both lie (`archive`), what an index says (the core).
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from sapwood.archive.seek import ENDING, Found, SeekIndex
from sapwood.errors import ConflictError, CorruptError, FormatError
from sapwood.store.requests import Requests
from sapwood.store.tocs import KeptTexts

__all__ = ["ENDING", "Led", "Ranges", "open_index", "read_index"]

_FIRST = 64 * 1024


class Ranges(Protocol):
    """The bytes of an archive or of its index."""

    @property
    def url(self) -> str:
        """Where it is, as messages show it."""
        ...

    @property
    def place(self) -> str:
        """Where it is, the same whenever it is asked for."""
        ...

    @property
    def size(self) -> int: ...
    @property
    def tail(self) -> bytes:
        """Its last 64 KiB, or all."""
        ...

    @property
    def version(self) -> str:
        """What changes when it does; empty of what is as quickly read as kept, or when nobody says."""
        ...

    @property
    def requests(self) -> Requests: ...
    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]: ...
    def check(self) -> None: ...
    def reconnect(self) -> None: ...


def read_index(archive: Ranges, beside: Ranges, kept: KeptTexts | None) -> SeekIndex:
    """Read the index `beside` of `archive`; its text, if it is long, from where it is kept.

    Raises:
        ConflictError: `archive-changed`: it is that of another archive.
        CorruptError: `index-corrupt`.
        FormatError: `format-newer`.
        NotFoundError, UnavailableError, DeniedError: as `Ranges.read`.
    """
    again = f"make it again: sapwood index {archive.url}"
    try:
        found = Found.read(beside.tail, beside.size)
        offset, _ = found.text
        if kept is None or offset >= beside.size - len(beside.tail):
            index = SeekIndex.open(found, _text(beside, found))
        else:
            index = _kept(found, kept) or _keeping(found, kept, _text(beside, found))
    except (CorruptError, FormatError) as error:
        kind = "index-corrupt" if isinstance(error, CorruptError) else error.kind
        raise type(error)(f"{beside.url}: {error}", kind=kind, hint=error.hint or again, address=beside.url) from error
    [first] = [archive.tail] if archive.size <= _FIRST else archive.read([(0, _FIRST)])
    if not index.is_of(archive.size, first, archive.tail):
        raise ConflictError(
            f"{beside.url} is the index of another archive than {archive.url} is now",
            kind="archive-changed",
            hint=again,
            address=archive.url,
        )
    return index


def open_index(beside: Ranges) -> SeekIndex:
    """Read the index of a layer, of which nothing need be asked, for both are known by a digest.

    Raises:
        CorruptError: `damaged`, `chunk-corrupt`.
        FormatError: `format-newer`.
    """
    found = Found.read(beside.tail, beside.size)
    return SeekIndex.open(found, _text(beside, found), is_layer=True)


def _text(beside: Ranges, found: Found) -> bytes:
    """Read the text of an index, as it lies there, as far as its tail has not brought it."""
    offset, length = found.text
    before = beside.size - len(beside.tail)
    [missing] = beside.read([(offset, before - offset)]) if offset < before else [b""]
    return missing + beside.tail[max(0, offset - before) :][: length - len(missing)]


def _kept(found: Found, kept: KeptTexts) -> SeekIndex | None:
    """Return the index whose text is kept, and is the right one."""
    stored = kept.read(found.digest)
    with contextlib.suppress(CorruptError, FormatError):
        return None if stored is None else SeekIndex.open(found, stored)
    kept.forget(found.digest)
    return None


def _keeping(found: Found, kept: KeptTexts, stored: bytes) -> SeekIndex:
    index = SeekIndex.open(found, stored)
    kept.keep(found.digest, stored)
    return index


class Led:
    """The bytes of an archive, each range with its lead before it."""

    def __init__(self, archive: Ranges, beside: Ranges, index: SeekIndex) -> None:
        self._archive = archive
        self._beside = beside
        self._index = index
        self.url, self.place = archive.url, archive.place
        self.size = archive.size
        self.version = archive.version
        self.requests = archive.requests

    @property
    def tail(self) -> bytes:
        return self._archive.tail

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        leads = [self._index.lead(offset) for offset, _ in ranges]
        windows = _read(self._beside, [(offset, length) for _, offset, length in leads])
        bodies = _read(self._archive, ranges)
        return [head + window + body for (head, _, _), window, body in zip(leads, windows, bodies, strict=True)]

    def check(self) -> None:
        self._archive.check()
        self._beside.check()

    def reconnect(self) -> None:
        self._archive.reconnect()
        self._beside.reconnect()


def _read(source: Ranges, ranges: list[tuple[int, int]]) -> list[bytes]:
    """Read ranges, of which those of no length need no request."""
    wanted = [each for each in ranges if each[1]]
    read = iter(source.read(wanted) if wanted else ())
    return [next(read) if length else b"" for _, length in ranges]
