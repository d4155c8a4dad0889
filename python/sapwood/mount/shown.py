"""What a mount shows, told to who pushes it: then nothing is read but what was changed.

Promise: `shown` tells of a mount only while its server, or who starts the next one, lives, so the note is this mount's.
Not here: what of the mount was changed (the core).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from sapwood import places
from sapwood._core import mount as core
from sapwood._core.filemap import FileMap
from sapwood.address import open_address
from sapwood.errors import SapwoodError
from sapwood.fetch import bring_pages
from sapwood.mount import table
from sapwood.store import kept
from sapwood.store.address import Address
from sapwood.store.archive import Archive

__all__ = ["Shown", "shown"]


@dataclass(frozen=True)
class Shown:
    """The tree below a mount, all its pages brought, and the upper layer of one that takes changes."""

    file_map: FileMap
    map: str
    upper: Path | None
    is_stored: bool
    """In packs of a store, not in an archive."""


def shown(root: str | os.PathLike[str]) -> Shown | None:
    """Return what the mount at `root` shows; None of what is no mount of ours, or not known well enough.

    Raises:
        SapwoodError: pages of the file map cannot be had; as `sapwood.fetch.load_map`.
    """
    place = Path(os.path.realpath(root))
    # Quickly, of what is none.
    if not os.path.ismount(place):
        return None
    found = next((mount for mount in table.mounts() if mount.path == place), None)
    if found is None or not found.map or not found.pid or not found.alive:
        return None
    # What is mounted over it, or in it, the note does not know.
    if not core.is_bare(place):
        return None
    upper = found.changes / "upper" if found.changes else None
    if not found.snapshot or found.map_size is None:
        # Of an archive only who can open it again.
        with contextlib.suppress(SapwoodError):
            archive, tree = open_address(found.address)
            if isinstance(archive, Archive) and tree.map == found.map:
                return Shown(archive.file_map, found.map, upper, is_stored=False)
        return None
    try:
        stored = kept.read(table.map_path(places.cache_dir(), place))
    except FileNotFoundError:
        return None
    file_map = FileMap(stored, found.map, found.map_size)
    if missing := file_map.bring_cached(places.cache_dir()):
        address = found.address.rpartition("@sha256:")[0] or found.address
        store, _ = open_address(str(Address.parse(f"{address}@{found.snapshot}")))
        bring_pages(store, file_map, missing)
    return Shown(file_map, found.map, upper, is_stored=True)
