"""Packs that were moved: their frames are read where they lie now. docs/store.md, "Readers".

Invariant: a frame is looked for elsewhere only when its pack is gone or cut off, or the caller found it damaged. What
is handed out is unproved here as anywhere, so a wrong redirect is found out by the digests of the chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapwood.digests import PackName
from sapwood.errors import CorruptError, FormatError, NotFoundError
from sapwood.store import faults
from sapwood.store.base import ReadObjects
from sapwood.store.keys import moved_key, pack_key

if TYPE_CHECKING:
    from sapwood.archive import Redirect

__all__ = ["HOPS", "Redirects"]

HOPS = 32
"""How many redirects a reader follows, one after the other."""


class Redirects:
    """The redirects of a place, each read once. Safe to use from several threads."""

    def __init__(self, objects: ReadObjects) -> None:
        self._objects = objects
        self._known: dict[PackName, Redirect] = {}
        self._gone: set[PackName] = set()

    def read(self, pack: PackName, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length) of a pack, in the order asked, wherever they lie now.

        Raises:
            NotFoundError: `object-missing`: the pack is gone, and not every range is a frame that was moved.
            CorruptError: `damaged` redirect; `object-short`.
            FormatError: `format-newer` redirect.
        """
        return self._read(pack, ranges, HOPS)

    def read_moved(self, pack: PackName, ranges: list[tuple[int, int]]) -> list[bytes] | None:
        """Return what `read` does, but not from the pack itself; None when it was not moved.

        A pack that it was moved to, and that was moved itself, is passed over too, for it may be as damaged.
        """
        return self._elsewhere(pack, ranges, HOPS, farthest=True)

    def _read(self, pack: PackName, ranges: list[tuple[int, int]], hops: int) -> list[bytes]:
        if pack not in self._gone:
            try:
                return self._objects.get_ranges(pack_key(pack), ranges)
            except NotFoundError as error:
                if error.kind != "object-missing":
                    raise
            except CorruptError as error:
                if error.kind != "object-short" or (found := self._elsewhere(pack, ranges, hops)) is None:
                    raise
                return found
        found = self._elsewhere(pack, ranges, hops)
        if found is None:
            raise faults.missing(self._objects.url, pack_key(pack))
        self._gone.add(pack)
        return found

    def _elsewhere(
        self, pack: PackName, ranges: list[tuple[int, int]], hops: int, *, farthest: bool = False
    ) -> list[bytes] | None:
        redirect = self._redirect(pack) if hops else None
        if redirect is None:
            return None
        by_pack: dict[PackName, list[tuple[int, tuple[int, int]]]] = {}
        for number, (offset, length) in enumerate(ranges):
            place = redirect.find(offset, length)
            if place is None:
                return None
            by_pack.setdefault(PackName(place[0]), []).append((number, place[1:]))
        found: dict[int, bytes] = {}
        for new, wanted in by_pack.items():
            places = [place for _, place in wanted]
            data = self._elsewhere(new, places, hops - 1, farthest=True) if farthest else None
            if data is None:
                data = self._read(new, places, hops - 1)
            found.update(zip((number for number, _ in wanted), data, strict=True))
        return [found[number] for number in range(len(ranges))]

    def _redirect(self, pack: PackName) -> Redirect | None:
        if known := self._known.get(pack):
            return known
        key = moved_key(pack)
        try:
            stored = self._objects.get(key)
        except NotFoundError as error:
            if error.kind != "object-missing":
                raise
            return None
        from sapwood.archive import decode_redirect

        try:
            self._known[pack] = decode_redirect(stored)
        except (CorruptError, FormatError) as error:
            where = f"{self._objects.url}: {key}"
            raise type(error)(f"{where}: {error}", kind=error.kind, store=self._objects.url, key=key) from error
        return self._known[pack]
