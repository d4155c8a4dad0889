"""Sources: where chunks that a store has lost may still be: its other packs, another store, a directory.

Promise: every chunk that is given was proved by its digest when it was read; a place that holds something else is
passed over. Not here: what is lost (`survey`), what becomes of it (`repair`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Container, Mapping
from typing import Protocol

from sapwood._core.filemap import Frame, read_chunk
from sapwood._core.push import Push
from sapwood._core.upkeep import read_spot, read_toc, search
from sapwood.digests import PackName
from sapwood.errors import CorruptError, FormatError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.store.keys import PACKS, pack_name
from sapwood.store.record import encode
from sapwood.store.store import Store, open_store
from sapwood.store.waiting import each
from sapwood.tree.index import Index
from sapwood.upkeep.verify import read_toc_of

__all__ = ["DirectorySource", "Source", "StoreSource", "open_source"]

_DAMAGES = (CorruptError, NotFoundError, FormatError)


class Source(Protocol):
    """A place to look for chunks."""

    def look(self, wanted: Mapping[str, int]) -> None:
        """Find out which of `wanted` (digest -> size) are here; `read` gives them."""

    def read(self, digest: str, size: int) -> bytes | None:
        """Return a chunk that was looked for, or None."""


class StoreSource:
    """The packs of a store, by what they say of themselves."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._places: dict[str, list[tuple[PackName, tuple[int, int, int, int, str, int]]]] = {}

    def look(self, wanted: Mapping[str, int]) -> None:
        listed = self.store._collecting().listed(PACKS)
        sizes = {name: found.size for found in listed if (name := pack_name(found.key))}
        self._places = {}

        def read(name: PackName) -> None:
            try:
                toc = read_toc_of(self.store, name, sizes[name])
            except _DAMAGES:
                return
            for holds in ("content", "page", "outline"):
                for place in toc.held(holds):
                    if place[4] in wanted:
                        self._places.setdefault(place[4], []).append((name, place))

        each(read, sorted(sizes))

    def read(self, digest: str, size: int) -> bytes | None:
        for pack, (offset, inner, length, plain, _, _) in sorted(self._places.get(digest, ())):
            try:
                [stored] = self.store.read_ranges(pack, [(offset, length)])
                return read_chunk(Frame(pack, offset, length, plain), stored, inner, digest, size)
            except _DAMAGES:
                continue
        return None


class DirectorySource:
    """The files of a directory, whole or cut as a push cuts them, and the pages of its file map."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._spots: dict[str, tuple[str, int]] = {}
        self._pages: dict[str, bytes] = {}

    def look(self, wanted: Mapping[str, int]) -> None:
        self._spots = search(self._root, list(wanted.items()))

    def make_pages(self, wanted: Container[str], holdings: bytes) -> None:
        """Make the pages again that a push of the directory would make, if a store held just `holdings`.

        Raises:
            SapwoodError: as `Push`; the directory cannot be read.
        """
        nonce = secrets.token_hex(8)
        found = Index(self._root)
        run = Push(self._root, index=found.path, options=found.options)
        try:
            run.begin(
                push=nonce,
                words=encode({"push": nonce}),
                content=None,
                holdings=holdings,
                memory=b"",
                fragments=[],
                pending=[],
                usable=None,
            )
            while (pack := run.next()) is not None:
                self._keep_pages(wanted, pack[0], pack[1])
                del pack
            run.result()
        finally:
            run.close()

    def _keep_pages(self, wanted: Container[str], name: str, data: memoryview) -> None:
        toc, _ = read_toc(bytes(data), len(data))
        for offset, inner, length, plain, digest, size in toc.held("page") if toc else ():
            if digest in wanted:
                stored = bytes(data[offset : offset + length])
                self._pages[digest] = read_chunk(Frame(name, offset, length, plain), stored, inner, digest, size)

    def read(self, digest: str, size: int) -> bytes | None:
        if digest in self._pages:
            return self._pages[digest]
        if digest not in self._spots:
            return None
        try:
            return read_spot(*self._spots[digest], digest, size)
        except SapwoodError:  # it has changed, or gone, since it was looked at
            return None


def open_source(where: str) -> Source:
    """Return the store, or else the directory, that `where` names.

    Raises:
        InvalidInputError: `not-a-store`: it is neither; `bad-store-url`.
    """
    try:
        return StoreSource(open_store(where))
    except InvalidInputError as error:
        if error.kind != "not-a-store" or not os.path.isdir(where):
            raise
    return DirectorySource(where)
