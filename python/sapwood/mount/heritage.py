"""What a mount shows, and what a server leaves for the one that takes over when it dies: exactly the same tree.

Invariant: a successor serves the file map that its predecessor did, so an inode stays what it was. Of a store it has
that from this machine, and asks the store only for what is missing in the cache: it can be away meanwhile. Of an
archive it has it from the archive, which must be there and unchanged; of an image by its digest, from this machine as
far as that was kept. Who mounts while the store is away, or is told
not to ask it, has all from this machine, too (`remembered`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sapwood._core.filemap import FileMap
from sapwood.address import open_address
from sapwood.errors import ConflictError, InvalidInputError, NotFoundError, SapwoodError, UnavailableError
from sapwood.fetch import load_map
from sapwood.mount import table
from sapwood.mount.early import Asking
from sapwood.mount.origin import Origin, later, within
from sapwood.mount.remembered import Known, Remembered
from sapwood.store import kept
from sapwood.store.address import Address
from sapwood.store.archive import Archive, ArchiveTree
from sapwood.store.naming import is_remote, may_name_archive, names_image, without_query
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store

if TYPE_CHECKING:  # of a store nothing of images is imported
    from sapwood.image.image import OnFound

__all__ = ["Opened", "opened"]

# Of a store that is away, when the tree is kept here: to open one takes four requests.
_PATIENCE_S = 15.0

OnOpened = Callable[[Store | Archive, Snapshot | ArchiveTree], None]


class Opened(NamedTuple):
    """What is to be mounted: where its frames come from, its file map, and the heritage for a successor.

    `away` says why the store was not asked what the address names, and is empty when it was.
    """

    origin: Origin
    file_map: FileMap
    heritage: dict[str, Any]
    away: str = ""


def opened(
    address: str,
    place: Path,
    *,
    cache_dir: Path,
    seek_index: str | None,
    toc: str | None,
    heritage: dict[str, Any] | None,
    offline: bool,
    meanwhile: OnOpened,
    on_found: OnFound,
    early: Asking | None = None,
) -> Opened:
    """Open what is to be mounted; with `offline`, without any request but those that were made `early`.

    `meanwhile` is called with what was opened, before the file map is loaded; not of a store that is opened later.
    `on_found` is called with an image, before its layers are opened.

    Raises:
        ConflictError: `archive-changed`: not the archive any more that `heritage` tells of.
        NotFoundError: `not-kept`: no store is to be asked, and nothing of the address is kept on this machine.
        InvalidInputError: `bad-usage`: nothing is to be asked, and one of archive, seek index and TOC is on a server.
        SapwoodError: as `open_address` and `load_map`.
    """
    if heritage and "snapshot" in heritage:
        pinned = Address.parse(f"{address.rpartition('@sha256:')[0] or address}@{heritage['snapshot']}")
        with contextlib.suppress(SapwoodError, FileNotFoundError):
            stored = kept.read(table.map_path(cache_dir, place))
            file_map = FileMap(stored, heritage["map"], heritage["map_size"])
            return Opened(later(pinned, cache_dir, offline=offline), file_map, heritage)
        return _of_store(pinned, place, cache_dir, meanwhile, offline=offline)._replace(heritage=heritage)
    if not (may_name_archive(address) or seek_index or toc):
        return _of_store(Address.parse(address), place, cache_dir, meanwhile, early, offline=offline)
    if names_image(address) and not (seek_index or toc):
        name = (heritage or {}).get("pinned") or address
        return _of_image(name, cache_dir, heritage, meanwhile, on_found, offline=offline)
    for where, what in ((address, "an archive"), (seek_index, "a seek index"), (toc, "a TOC")):
        if offline and where and is_remote(where):
            raise InvalidInputError(
                f"{without_query(where)}: {what} on a server, of which nothing can be shown offline",
                kind="bad-usage",
                hint="bring it here first, or push the tree to a store and mount that",
            )
    archive, tree = open_address(address, seek_index=seek_index, toc=toc, cache_dir=cache_dir)
    assert isinstance(tree, ArchiveTree)
    assert isinstance(archive, Archive)  # of another address seek index and TOC are refused
    meanwhile(archive, tree)
    if heritage and heritage["map"] != tree.map:
        raise ConflictError(
            f"{archive.url}: not the archive any more that was mounted",
            kind="archive-changed",
            hint=f"sapwood umount {place}, and mount it again",
            address=archive.url,
        )
    return Opened(archive, archive.file_map, {"map": tree.map})


def _of_image(
    address: str,
    cache_dir: Path,
    heritage: dict[str, Any] | None,
    meanwhile: OnOpened,
    on_found: OnFound,
    *,
    offline: bool,
) -> Opened:
    from sapwood.image import ImageName, open_image
    from sapwood.image.remembered import meant

    now = meant(ImageName.parse(address), cache_dir=cache_dir, offline=offline)
    image, tree = open_image(now.name, cache_dir=cache_dir, brings_pages=True, place=now.place, on_found=on_found)
    meanwhile(image, tree)
    left = {"map": tree.map, "pinned": image.pinned, "asked": now.asked}
    return Opened(image, image.file_map, heritage or left, "" if heritage else now.away)


def _of_store(
    address: Address,
    place: Path,
    cache_dir: Path,
    meanwhile: OnOpened,
    early: Asking | None = None,
    *,
    offline: bool,
) -> Opened:
    remembered = Remembered(cache_dir, address)
    known = remembered.find()
    if offline:
        if known is None:
            raise NotFoundError(
                f"{address}: nothing of it is kept here, and no store is asked offline",
                kind="not-kept",
                hint="mount it once without --offline",
            )
        return _of_known(known, address, place, cache_dir, "offline", offline=True)
    try:
        patience_s = None if known is None else _PATIENCE_S
        asking = early if early is not None and early.is_of(address, cache_dir) else Asking(address, cache_dir)
        store, snapshot, stored = within(patience_s, lambda: _answers(asking, meanwhile))
    except UnavailableError as error:
        if known is None:
            raise
        return _of_known(known, address, place, cache_dir, str(error), offline=False)
    except SapwoodError as error:
        if known is not None:
            error.add_note(f"what it named when it was last mounted is kept here: --offline shows {known.shown}")
        raise
    file_map = load_map(store, snapshot, pages=False, stored=stored)
    remembered.keep(snapshot, stored)
    return Opened(store, file_map, _left(snapshot, stored, place, cache_dir, None))


def _answers(asking: Asking, meanwhile: OnOpened) -> tuple[Store, Snapshot, bytes]:
    store, snapshot = asking.snapshot()
    meanwhile(store, snapshot)
    return store, snapshot, asking.fence_index()


def _of_known(known: Known, address: Address, place: Path, cache_dir: Path, away: str, *, offline: bool) -> Opened:
    pinned = Address(address.store_url, address.ref, known.snapshot.digest)
    left = _left(known.snapshot, known.stored, place, cache_dir, known.asked)
    return Opened(later(pinned, cache_dir, offline=offline), known.file_map, left, away)


def _left(snapshot: Snapshot, stored: bytes, place: Path, cache_dir: Path, asked: int | None) -> dict[str, Any]:
    """Return the heritage; `asked` is when the store was, of a mount that did not ask it what its ref names."""
    # Without it a successor asks the store.
    with contextlib.suppress(SapwoodError):
        kept.write(table.map_path(cache_dir, place), stored)
    is_image = names_image(snapshot.source)
    left = {"snapshot": snapshot.digest, "map": snapshot.map, "map_size": snapshot.map_size, "asked": asked}
    return left | {"image": is_image}
