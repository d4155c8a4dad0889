"""Stores and trees as scripts use them: opened by name, with everything that can be done to them as methods.

Promise: of a snapshot nothing is fetched but the pages and chunks that are looked at. Not here: what a tree can do
(`tree`), how a push, a pull or a mount goes (`push`, `pull`, `mount`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sapwood._core.filemap import Entry, FileMap
from sapwood.address import open_address
from sapwood.digests import TreeDigest
from sapwood.errors import CorruptError, FormatError
from sapwood.fetch import bring_pages, from_elsewhere, in_pack, load_map, located, read_frames
from sapwood.store.address import Address
from sapwood.store.archive import Archive, ArchiveTree
from sapwood.store.naming import without_query
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.tree.source import shown
from sapwood.tree.tree import Tree

if TYPE_CHECKING:
    from sapwood.mount.process import Started
    from sapwood.mount.server import Tier
    from sapwood.progress import OnProgress
    from sapwood.pull import Pulled
    from sapwood.push import Pushed
    from sapwood.tarstream import Told
    from sapwood.tree.options import Options

__all__ = ["OpenStore", "is_directory", "open_store", "open_tree", "tree_of"]


class OpenStore(Store):
    """A store with the whole way to and from it. `ref` is a ref's name, or pinned: `REF@sha256:...`."""

    def push(
        self,
        root: str | os.PathLike[str],
        ref: str,
        *,
        index: Path | None = None,
        options: Options | None = None,
        level: int | None = None,
        progress: OnProgress | None = None,
    ) -> Pushed:
        """Push a directory and let `ref` name the result; see `sapwood.push.push`."""
        from sapwood.push import push

        return push(self, root, ref, index=index, options=options, level=level, progress=progress)

    def push_tar(
        self,
        tar: str | os.PathLike[str],
        ref: str,
        *,
        level: int | None = None,
        progress: OnProgress | None = None,
    ) -> Pushed:
        """Push a tar's tree, and how to give the same tar back; `tar` is a path, a URL, or `-`, stdin.

        Raises:
            SapwoodError: as `sapwood.tarsource.open_source` and `sapwood.push.push_archive`.
        """
        from sapwood.push import push_archive
        from sapwood.tarsource import open_source

        with open_source(tar) as source:
            return push_archive(self, source, ref, level=level, progress=progress)

    def write_tar(self, ref: str, out: IO[bytes], *, progress: OnProgress | None = None) -> Told:
        """Write the tar that was pushed as `ref` to `out`; see `sapwood.tarstream.write_tar`."""
        from sapwood.tarstream import write_tar

        return write_tar(self, self.snapshot(ref), out, progress=progress)

    def pull(
        self,
        ref: str,
        destination: str | os.PathLike[str],
        *,
        delete: bool = False,
        index: Path | None = None,
        progress: OnProgress | None = None,
    ) -> Pulled:
        """Make a directory what `ref` names; see `sapwood.pull.pull`."""
        from sapwood.pull import pull

        return pull(self, self.snapshot(ref), destination, delete=delete, index=index, progress=progress)

    @contextmanager
    def mount(
        self,
        ref: str,
        place: str | os.PathLike[str],
        *,
        tier: Tier = "auto",
        deadline_s: float | None = None,
        cache_size: int | None = None,
        cache_dir: Path | None = None,
        writable: bool = False,
    ) -> Iterator[Started]:
        """Mount what `ref` names at `place` for the life of the `with` block, served by a process of its own.

        A `writable` mount takes changes, which stay for the next one at the same place: docs/writable.md.

        `tier` says how the kernel gets the tree (docs/mount.md). A read gets EIO when the store has brought nothing for
        `deadline_s` seconds, 60 if that is None. The cache is held to `cache_size` bytes, or so that a tenth of the
        disk's space stays free.

        Raises:
            ConflictError: `changes-of-another`.
            InvalidInputError: `bad-mount-point`, `own-mount`; `bad-argument`: the native tier cannot hold the tree.
            UnavailableError: `mount-failed`, `mount-died`, `libfuse-missing`.
        """
        from sapwood import places
        from sapwood.mount import process
        from sapwood.mount.fetching import DEADLINE_S

        started = process.start(
            f"{self.url}#{ref}",
            Path(place),
            cache_dir=cache_dir or places.cache_dir(),
            tied=True,
            tier=tier,
            deadline_s=DEADLINE_S if deadline_s is None else deadline_s,
            cache_size=cache_size,
            writable=writable,
        )
        try:
            yield started
        finally:
            started.end()

    def tree(self, ref: str) -> Tree:
        """Return the tree that `ref` names; errors as `load_map`."""
        return tree_of(self, self.snapshot(ref))

    def snapshot(self, ref: str) -> Snapshot:
        """Return the snapshot that `ref` names; errors as `Address.open`."""
        address = Address.parse(f"{self.url}#{ref}")
        return self.read_snapshot(address.pin or self.read_ref(address.ref).snapshot)


def open_store(url: str, *, create: bool = False, cache_dir: Path | None = None) -> OpenStore:
    """Open the store at `url`, with `create` making one of an empty place; see `Store.open`."""
    return OpenStore.open(url, create=create, cache_dir=cache_dir)


def is_directory(what: str) -> bool:
    """Say whether `what` means a directory on this machine rather than an address."""
    return "#" not in what and os.path.isdir(what)


def open_tree(
    what: str,
    options: Options | None = None,
    *,
    seek_index: str | None = None,
    toc: str | None = None,
    progress: OnProgress | None = None,
) -> Tree:
    """Return the tree of a directory, looked at with `options` and hashed now, or of an address, as `open_address`.

    Raises:
        NotFoundError, CorruptError, FormatError, InvalidInputError: as `open_address` and `Index.tree`.
        InvalidInputError: `bad-usage`: there are `options`, and this is no directory.
    """
    if is_directory(what) and seek_index is None and toc is None:
        from sapwood.tree.index import Index

        return Index(what, options=options).tree()
    if options is not None:
        options.require_directory(without_query(what))
    return tree_of(*open_address(what, seek_index=seek_index, toc=toc, progress=progress))


def tree_of(store: Store | Archive, snapshot: Snapshot | ArchiveTree, *, pages: bool = False) -> Tree:
    """Return the tree of a snapshot, with all `pages` of its file map fetched now if it is to be listed whole.

    Errors as `load_map`.
    """
    return Tree.from_source(_Stored(store, load_map(store, snapshot, pages=pages)))


class _Stored:
    """A file map in a store, or of an archive, as a source: pages and chunks are fetched when they are looked at."""

    def __init__(self, store: Store | Archive, file_map: FileMap) -> None:
        self._store = store
        self._map = file_map

    @property
    def digest(self) -> TreeDigest:
        return TreeDigest(self._map.tree)

    def hashed(self) -> TreeDigest:
        return self.digest

    def lookup(self, path: bytes) -> Entry | None:
        self._bring(path, children=False)
        return self._map.lookup(path)

    def list(self, path: bytes) -> list[Entry]:
        self._bring(path, children=True)
        return self._map.list(path)

    def listing(self, path: bytes) -> FileMap:
        self._bring(path, children=True)
        return self._map

    def _bring(self, path: bytes, *, children: bool) -> None:
        if missing := self._map.missing(path, children):
            bring_pages(self._store, self._map, missing)

    def read(self, entry: Entry) -> Iterator[bytes]:
        for frame, inner, digest, size in entry.chunks:
            [(_, stored)] = read_frames(self._store, [frame])
            with in_pack(self._store, frame), located(shown(entry.path), path=entry.path):
                try:
                    chunk = self._map.read_chunk(frame, stored, inner, digest, size)
                except (CorruptError, FormatError) as error:
                    prove = partial(self._map.read_chunk, frame, inner=inner, digest=digest, size=size)
                    chunk = from_elsewhere(self._store, frame, prove, error)
            yield chunk
