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
    """The redirects of a place, each read once, and again when it leads nowhere. Safe to use from several threads."""

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

    def read_moved(self, pack: PackName, ranges: list[tuple[int, int]], *, again: bool = False) -> list[bytes] | None:
        """Return what `read` does, but not from the pack itself; None when it was not moved.

        A pack that it was moved to, and that was moved itself, is passed over too, for it may be as damaged. With
        `again` nothing is believed that was read before, for it may have been healed since.
        """
        if again:
            self._known.clear()
            self._gone.clear()
        return self._elsewhere(pack, ranges, HOPS, farthest=True)

    def _read(self, pack: PackName, ranges: list[tuple[int, int]], hops: int) -> list[bytes]:
        was_gone = pack in self._gone
        if not was_gone:
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
            if not was_gone:
                raise faults.missing(self._objects.url, pack_key(pack))
            # It may have been put back since.
            self._gone.discard(pack)
            return self._read(pack, ranges, hops)
        self._gone.add(pack)
        return found

    def _elsewhere(
        self, pack: PackName, ranges: list[tuple[int, int]], hops: int, *, farthest: bool = False
    ) -> list[bytes] | None:
        found_at = self._places(pack, ranges) if hops else None
        if found_at is None:
            return None
        by_pack: dict[PackName, list[tuple[int, tuple[int, int]]]] = {}
        for number, place in enumerate(found_at):
            by_pack.setdefault(PackName(place[0]), []).append((number, place[1:]))
        found: dict[int, bytes] = {}
        for new, wanted in by_pack.items():
            places = [place for _, place in wanted]
            data = self._elsewhere(new, places, hops - 1, farthest=True) if farthest else None
            if data is None:
                data = self._read(new, places, hops - 1)
            found.update(zip((number for number, _ in wanted), data, strict=True))
        return [found[number] for number in range(len(ranges))]

    def _places(self, pack: PackName, ranges: list[tuple[int, int]]) -> list[tuple[str, int, int]] | None:
        """Return where frames of a pack lie now, None if not all were moved."""
        while True:
            was_known = pack in self._known
            redirect = self._redirect(pack)
            found = [redirect.find(offset, length) for offset, length in ranges] if redirect else [None]
            places = [place for place in found if place]
            if len(places) == len(found):
                return places
            if not was_known:
                return None
            # One that was read long ago may lack what has been found since.
            self._known.pop(pack, None)

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
            redirect = decode_redirect(stored)
        except (CorruptError, FormatError) as error:
            where = f"{self._objects.url}: {key}"
            raise type(error)(f"{where}: {error}", kind=error.kind, store=self._objects.url, key=key) from error
        self._known[pack] = redirect
        return redirect
