"""What a mount shows, and what a server leaves for the one that takes over when it dies: exactly the same tree.

Invariant: a successor serves the file map that its predecessor did, so an inode stays what it was. Of a store it has
that from this machine, and asks the store only for what is missing in the cache: it can be away meanwhile. Of an
archive it has it from the archive, which must be there and unchanged.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from sapwood._core.filemap import FileMap
from sapwood.digests import PackName
from sapwood.errors import ConflictError, SapwoodError
from sapwood.fetch import load_map
from sapwood.mount import table
from sapwood.store import kept
from sapwood.store.address import Address, open_address
from sapwood.store.archive import Archive, ArchiveTree
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store

__all__ = ["Origin", "opened"]


class Origin(Protocol):
    """Where frames come from; for each method's promise see `Store` and `Archive`."""

    @property
    def url(self) -> str: ...
    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]], /) -> list[bytes]: ...
    def read_moved(self, pack: PackName, offset: int, length: int, /, *, again: bool = False) -> bytes | None: ...


def opened(
    address: str,
    place: Path,
    *,
    cache_dir: Path,
    seek_index: str | None,
    toc: str | None,
    heritage: dict[str, Any] | None,
    meanwhile: Callable[[Store | Archive, Snapshot | ArchiveTree], None],
) -> tuple[Origin, FileMap, dict[str, Any]]:
    """Open what is to be mounted: where its frames come from, its file map, and the heritage for a successor.

    `meanwhile` is called with what was opened, before the file map is loaded; not of a store that is opened later.

    Raises:
        ConflictError: `archive-changed`: not the archive any more that `heritage` tells of.
        SapwoodError: as `open_address` and `load_map`.
    """
    if heritage and "snapshot" in heritage:
        pinned = str(Address.parse(f"{address.rpartition('@sha256:')[0] or address}@{heritage['snapshot']}"))
        late = _Late(lambda: open_address(pinned, cache_dir=cache_dir)[0], address)
        with contextlib.suppress(SapwoodError, FileNotFoundError):
            stored = kept.read(table.map_path(cache_dir, place))
            return late, FileMap(stored, heritage["map"], heritage["map_size"]), heritage
        address = pinned
    origin, tree = open_address(address, seek_index=seek_index, toc=toc, cache_dir=cache_dir)
    meanwhile(origin, tree)
    if isinstance(origin, Archive):
        if heritage and heritage["map"] != tree.map:
            raise ConflictError(
                f"{origin.url}: not the archive any more that was mounted",
                kind="archive-changed",
                hint=f"sapwood umount {place}, and mount it again",
                address=origin.url,
            )
        return origin, origin.file_map, {"map": tree.map}
    assert isinstance(tree, Snapshot)  # of a store only a store's
    stored = origin.read_map(tree.map)
    file_map = load_map(origin, tree, pages=False, stored=stored)
    # Without it a successor asks the store.
    with contextlib.suppress(SapwoodError):
        kept.write(table.map_path(cache_dir, place), stored)
    return origin, file_map, {"snapshot": tree.digest, "map": tree.map, "map_size": tree.map_size}


class _Late:
    """A store that is opened when something is first wanted of it; what failed is tried again by who comes later."""

    def __init__(self, open_it: Callable[[], Origin], url: str) -> None:
        self.url = url
        self._open_it = open_it
        self._origin: Origin | None = None
        self._tried = 0
        self._error: SapwoodError | None = None
        self._lock = threading.Lock()

    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]], /) -> list[bytes]:
        return self._opened().read_ranges(pack, ranges)

    def read_moved(self, pack: PackName, offset: int, length: int, /, *, again: bool = False) -> bytes | None:
        return self._opened().read_moved(pack, offset, length, again=again)

    def _opened(self) -> Origin:
        if self._origin:
            return self._origin
        tried = self._tried
        with self._lock:
            # Who waited for another one's try shares its end: one after the other they would wait for ever longer.
            if self._origin is None and tried != self._tried and self._error:
                raise self._error
            if self._origin is None:
                try:
                    self._origin = self._open_it()
                except SapwoodError as error:
                    self._error = error
                    raise
                finally:
                    self._tried += 1
            return self._origin
