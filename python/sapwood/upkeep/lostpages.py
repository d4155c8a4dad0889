"""Lost pages of file maps, told again: entries as a copy of the tree tells them, places as packs and fragments do.

Promise: a page is given only when it has the digest of the one that was lost: the copy has the same names, modes, times
and contents there. Not here: which pages are lost (`survey`), what becomes of them (`repair`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from sapwood._core.upkeep import Places
from sapwood.store.keys import FRAGMENTS, fragment_name
from sapwood.store.waiting import each
from sapwood.upkeep.sources import Held, Source
from sapwood.upkeep.survey import DAMAGES, Survey
from sapwood.upkeep.verify import read_toc_of

__all__ = ["PageSource"]


class PageSource:
    """Pages that copies of the trees in a store tell again."""

    def __init__(self, survey: Survey, copies: Sequence[Source]) -> None:
        self._survey = survey
        self._copies = copies
        self._told: dict[str, bytes] = {}

    def look(self, wanted: Mapping[str, int], held: Sequence[Held]) -> None:  # noqa: ARG002 - the protocol's
        lost = {digest: page for digest, page in self._survey.lost_pages.items() if digest in wanted}
        if not lost:
            return
        places = self._places()
        snapshots = [page.snapshot for page in lost.values()]
        for file_map in (file_map for copy in self._copies for file_map in copy.maps(snapshots)):
            for digest, page in lost.items():
                told = places.page(file_map, page.first, page.entries, digest, page.size, list(page.snapshot.packs))
                if told is not None:
                    self._told[digest] = told
            lost = {digest: page for digest, page in lost.items() if digest not in self._told}
            if not lost:
                return

    def read(self, digest: str, size: int) -> bytes | None:
        found = self._told.get(digest)
        return found if found is not None and len(found) == size else None

    def _places(self) -> Places:
        store, places = self._survey.store, Places()
        for name, redirect in self._survey.moved.items():
            places.redirect(name, redirect)

        def fragment(key: str) -> None:
            with contextlib.suppress(*DAMAGES):
                places.fragment(store._objects.get(key))

        each(fragment, [key for key in store._objects.list(FRAGMENTS) if fragment_name(key)])
        for name, listed in self._survey.packs.items():
            with contextlib.suppress(*DAMAGES):
                places.pack(name, read_toc_of(store, name, listed.size))
        return places
