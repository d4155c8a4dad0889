"""Outputs on this machine: what was built here lately, or fetched to build on.

Invariant: what is kept is looked at by its index before it is used; nothing is removed while any build of this user
runs. Not here: making outputs (`outputs`), finding results (`results`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapwood.build.results import Result
from sapwood.errors import NotFoundError
from sapwood.progress import OnProgress
from sapwood.store.archive import ArchiveTree
from sapwood.store.store import Store
from sapwood.tree.index import Index

if TYPE_CHECKING:
    from sapwood.mount.process import Started
    from sapwood.store.archive import Archive
    from sapwood.store.snapshot import Snapshot

__all__ = ["Kept"]

_FOLDER_BYTES = 64 << 10
"""What the smallest of outputs counts for, so that there are not too many."""
_KEPT_BYTES = 4 << 30
"""What is kept between builds."""
_MOUNT_BYTES = 16 << 20
"""Trees of less are pulled: a mount has a process of its own."""


class Kept:
    """Below `home`, for all builds of this user; `scratch` is for what ends with this build, at `close`.

    While something is fetched or looked at `progress` is told, and ends that by raising.
    """

    def __init__(self, home: Path, scratch: Path, stores: list[Store], progress: OnProgress | None = None) -> None:
        self._progress = progress
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._scratch = scratch
        self._stores = {store.url: store for store in stores}
        self._places: dict[tuple[str, bool], Path] = {}
        self._mounts: list[Started] = []
        self._busy: dict[str, threading.Lock] = {}
        self._grew = False
        self._lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def take(self, result: Result, place: Path, index: Path, size: int) -> None:
        """Keep what was just stored, `size` bytes, by moving it here."""
        with self._folder(result.snapshot) as folder:
            if not (folder / "tree").exists():
                os.rename(index, folder / "index")
                os.rename(place, folder / "tree")
                (folder / "size").write_text(str(size))
                self._grew = True
            self._places[result.snapshot, False] = self._places[result.snapshot, True] = folder / "tree"

    def place(self, result: Result, *, lazy: bool) -> Path:
        """Return where the outputs of a result lie: kept, pulled, or if `lazy` and large mounted.

        Raises:
            SapwoodError: they cannot be had.
        """
        store = self._stores[result.store]
        return self._place(
            result.address, result.snapshot, lambda: (store, store.read_snapshot(result.snapshot)), lazy=lazy
        )

    def tree(self, address: str, *, lazy: bool) -> Path:
        """Return where the tree at a pinned `address` lies, likewise."""
        from sapwood.address import open_address

        return self._place(address, address, lambda: open_address(address), lazy=lazy)

    def _place(self, address: str, name: str, read: Callable[[], tuple[Any, Any]], *, lazy: bool) -> Path:
        with self._folder(name) as folder:
            if (name, lazy) not in self._places:
                self._places[name, lazy] = self._find(address, folder, *read(), lazy=lazy)
            return self._places[name, lazy]

    def lost(self) -> str:
        """Return why a read of what is mounted has failed, of whatever builder; empty if none has."""
        from sapwood import places
        from sapwood.mount import table

        for started in self._mounts:
            if why := table.lost(places.cache_dir(), started.place):
                return why
            if not table.is_mounted(started.place):
                return "it is not mounted any more"
        return ""

    def blocked_s(self) -> float:
        """Return for how long readers of what is mounted, of all builders, waited for what was not here, in seconds."""
        from sapwood import places
        from sapwood.mount.table import blocked_s

        return sum(blocked_s(places.cache_dir(), started.place) for started in self._mounts)

    def close(self) -> None:
        """End mounts, let go of all, and remove what was used longest ago beyond what may be kept."""
        for started in self._mounts:
            started.end()
        with contextlib.suppress(BlockingIOError):
            if self._grew:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._shrink()
        os.close(self._lock)

    def _find(
        self, address: str, folder: Path, store: Store | Archive, snapshot: Snapshot | ArchiveTree, *, lazy: bool
    ) -> Path:
        from sapwood.pull import pull

        tree, index = folder / "tree", folder / "index"
        if tree.exists():
            if Index(tree, index).hash(progress=self._progress).digest == snapshot.tree:
                os.utime(folder)
                return tree
            shutil.rmtree(tree)
        if isinstance(snapshot, ArchiveTree):
            size = None
        else:
            size = snapshot.bytes
            if isinstance(store, Store) and not store.has_packs(snapshot.packs):
                raise NotFoundError(f"{address}: not all of it is there any more", kind="pack-missing")
        if lazy and (size is None or size > _MOUNT_BYTES):
            return self._mount(address)
        pull(store, snapshot, tree, index=index, progress=self._progress)
        (folder / "size").write_text(str(size or 0))
        self._grew = True
        return tree

    def _mount(self, address: str) -> Path:
        from sapwood import places
        from sapwood.mount import process

        place = self._scratch / f"mount-{len(self._mounts)}"
        place.mkdir()
        started = process.start(address, place, cache_dir=places.cache_dir(), tied=True, prefetch=False)
        self._mounts.append(started)
        return place

    @contextlib.contextmanager
    def _folder(self, name: str) -> Iterator[Path]:
        """Give the folder of a snapshot or an address to one thread of one process at a time."""
        folder = self._home / hashlib.sha256(name.encode()).hexdigest()
        with self._busy.setdefault(name, threading.Lock()):
            folder.mkdir(exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield folder
            finally:
                os.close(descriptor)

    def _shrink(self) -> None:
        found = []
        for folder in self._home.iterdir():
            with contextlib.suppress(OSError, ValueError):
                found.append((folder.stat().st_mtime, int((folder / "size").read_text()) + _FOLDER_BYTES, folder))
        total = sum(size for _, size, _ in found)
        for _, size, folder in sorted(found):
            if total > _KEPT_BYTES:
                shutil.rmtree(folder)
                total -= size
