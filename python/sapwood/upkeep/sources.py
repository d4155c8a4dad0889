"""Sources: where chunks that a store has lost may still be: its other packs, another store, a directory, a tar.

Promise: every chunk that is given was proved by its digest when it was read; a place that holds something else is
passed over. Directories, tars and other stores are only read. Not here: what is lost (`survey`), what
becomes of it (`repair`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from sapwood._core.filemap import FileMap, Frame, read_chunk
from sapwood._core.upkeep import read_spot, search
from sapwood.digests import PackName
from sapwood.errors import InvalidInputError, SapwoodError
from sapwood.fetch import load_map
from sapwood.pull import pull
from sapwood.push import push, push_archive
from sapwood.store.keys import PACKS, pack_name
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store, open_store
from sapwood.store.waiting import each
from sapwood.tarsource import open_source as open_tar
from sapwood.upkeep.survey import DAMAGES, Place, snapshots_listed
from sapwood.upkeep.verify import read_toc_of

__all__ = ["Chunks", "DirectorySource", "Source", "StoreSource", "TarSource", "open_source"]


Held = tuple[str, int, int, int]
"""As the core tells where a file holds a chunk (`_core.upkeep.held`)."""


class Chunks(Protocol):
    """A place to look for chunks."""

    def look(self, wanted: Mapping[str, int], held: Sequence[Held]) -> None:
        """Find out which of `wanted` (digest -> size) are here; `read` gives them. `held` is where files hold them."""

    def read(self, digest: str, size: int) -> bytes | None:
        """Return a chunk that was looked for, or None."""


class Source(Chunks, Protocol):
    """A copy of trees, or of some of their files."""

    def maps(self, wanted: Sequence[Snapshot]) -> Iterator[FileMap]:
        """Yield whole file maps that may have pages in common with those of `wanted` but for the places of chunks."""


class StoreSource:
    """The packs of a store, by what they say of themselves."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._places: dict[str, list[tuple[PackName, Place]]] = {}

    def look(self, wanted: Mapping[str, int], held: Sequence[Held] = ()) -> None:  # noqa: ARG002 - the protocol's
        listed = self.store._collecting().listed(PACKS)
        sizes = {name: found.size for found in listed if (name := pack_name(found.key))}
        self._places = {}

        def read(name: PackName) -> None:
            try:
                toc = read_toc_of(self.store, name, sizes[name])
            except DAMAGES:
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
            except DAMAGES:
                continue
        return None

    def maps(self, wanted: Sequence[Snapshot]) -> Iterator[FileMap]:
        trees = {snapshot.tree for snapshot in wanted}
        heads = {ref.snapshot for ref in self.store.sound_refs()[0]}
        # Trees that are the same first; of others a part may be.
        others = list[Snapshot]()
        for digest in snapshots_listed(self.store):
            with contextlib.suppress(*DAMAGES):
                snapshot = self.store.read_snapshot(digest)
                if snapshot.tree in trees:
                    yield load_map(self.store, snapshot, pages=True)
                elif digest in heads:
                    others.append(snapshot)
        for snapshot in others:
            with contextlib.suppress(*DAMAGES):
                yield load_map(self.store, snapshot, pages=True)


class DirectorySource:
    """The files of a directory, whole, cut as a push cuts them, or cut as the store that lost some has them."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._spots: dict[str, tuple[str, int]] = {}

    def look(self, wanted: Mapping[str, int], held: Sequence[Held]) -> None:
        self._spots = search(self._root, list(wanted.items()), held)

    def read(self, digest: str, size: int) -> bytes | None:
        if digest not in self._spots:
            return None
        try:
            return read_spot(*self._spots[digest], digest, size)
        except SapwoodError:  # it has changed, or gone, since it was looked at
            return None

    def maps(self, wanted: Sequence[Snapshot]) -> Iterator[FileMap]:  # noqa: ARG002 - the protocol's
        """Yield the file map of the directory as a push makes it, into a store that is gone afterwards."""
        with _scratch() as (store, place):
            try:
                push(store, self._root, "main", index=place / "index")
                yield _map_of(store)
            except SapwoodError:  # it may be read in part only, or changes too much
                return


class TarSource:
    """What a push of a tar stores: contents, and pages of its split metadata, too."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept: dict[str, tuple[int, int]] = {}
        self._chunks: IO[bytes] | None = None

    def look(self, wanted: Mapping[str, int], held: Sequence[Held]) -> None:
        """Keep what is wanted in a nameless file; the store that it comes of is gone afterwards."""
        self._kept, self._chunks = {}, tempfile.TemporaryFile()  # noqa: SIM115 - it is for `read`
        with _scratch() as (store, place):
            self._push(store)
            there = StoreSource(store)
            there.look(wanted)
            unpacked = _unpacked(store, place / "tree", wanted, held)
            for digest, size in wanted.items():
                chunk = there.read(digest, size)
                if chunk is None and unpacked is not None:
                    chunk = unpacked.read(digest, size)
                if chunk is not None:
                    self._kept[digest] = self._chunks.tell(), size
                    self._chunks.write(chunk)
        self._chunks.flush()

    def read(self, digest: str, size: int) -> bytes | None:
        if self._chunks is None or self._kept.get(digest, (0, -1))[1] != size:
            return None
        # Several read at once.
        return os.pread(self._chunks.fileno(), size, self._kept[digest][0])

    def maps(self, wanted: Sequence[Snapshot]) -> Iterator[FileMap]:  # noqa: ARG002 - the protocol's
        """Yield the file map of the tar's tree, as `DirectorySource` does."""
        with _scratch() as (store, _):
            self._push(store)
            yield _map_of(store)

    def _push(self, store: Store) -> None:
        with open_tar(self._path) as tar:
            push_archive(store, tar, "main")


@contextlib.contextmanager
def _scratch() -> Iterator[tuple[Store, Path]]:
    """Give an empty store and the directory that it lies in, both gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sapwood-repair-") as scratch:
        place = Path(scratch)
        yield open_store(str(place / "store"), create=True, cache_dir=place / "cache"), place


def _unpacked(store: Store, place: Path, wanted: Mapping[str, int], held: Sequence[Held]) -> DirectorySource | None:
    """Return the files of a tree that hold pieces which no push makes, where any of these are wanted."""
    if not held:
        return None
    with contextlib.suppress(SapwoodError):  # not all of it may be written here: then of what was
        pull(store, store.read_snapshot(store.read_ref("main").snapshot), place)
    unpacked = DirectorySource(str(place))
    try:
        unpacked.look(wanted, held)
    except SapwoodError:  # nothing was written
        return None
    return unpacked


def _map_of(store: Store) -> FileMap:
    return load_map(store, store.read_snapshot(store.read_ref("main").snapshot), pages=True)


def open_source(where: str) -> Source:
    """Return the store, or else the directory or the tar, that `where` names.

    Raises:
        InvalidInputError: `not-a-store`: it is none; `bad-store-url`; `cannot-list`: nobody can tell what is there.
    """
    try:
        store = open_store(where)
        store.require_listings()
        return StoreSource(store)
    except InvalidInputError as error:
        if error.kind != "not-a-store":
            raise
        if os.path.isfile(where):
            return TarSource(where)
        if not os.path.isdir(where):
            raise InvalidInputError(
                f"{where}: neither a store nor a directory nor a tar",
                kind="not-a-store",
                hint="sapwood repair --from DIR|TAR|STORE_URL STORE_URL",
                store=where,
            ) from error
    return DirectorySource(where)
