"""Proof: everything in an archive, held against its TOC.

Promise: every chunk is read and proved by its digest, and every file by its own; each damage is named with the files
that it strikes, and nothing is written. Not here: stores (`verify`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sapwood._core.filemap import Frame
from sapwood._core.pull import Proof
from sapwood.errors import CorruptError, FormatError
from sapwood.fetch import fetch_all, load_map
from sapwood.progress import OnProgress, fetching
from sapwood.tree.source import shown
from sapwood.upkeep.survey import SHOWN, Damage
from sapwood.upkeep.verify import Verified

if TYPE_CHECKING:
    from sapwood.store.archive import Archive, ArchiveTree

__all__ = ["verify_archive"]


def verify_archive(archive: Archive, tree: ArchiveTree, *, progress: OnProgress | None = None) -> Verified:
    """Read all of an archive, one file map and one pack, and prove it; the key of a damage says which of its bytes.

    Raises:
        CorruptError: `damaged`: the TOC; `object-short`: the archive is cut.
        InvalidInputError: chunks of a large file lie in an order in which it cannot be hashed with little memory.
        ConflictError: `archive-changed` meanwhile.
        UnavailableError, DeniedError: it cannot be read.
    """
    started = time.monotonic()
    file_map = load_map(archive, tree, pages=True)
    taker = _Taker(Proof(file_map))
    read = fetch_all(archive, taker, fetching(progress, taker.bytes_needed))
    return Verified(
        refs=0,
        snapshots=0,
        maps=1,
        pages=len(file_map.pages()),
        packs=1,
        packs_read=1,
        bytes_read=read.bytes,
        fragments=0,
        damages=tuple(taker.damages()),
        seconds=time.monotonic() - started,
    )


class _Taker:
    """Gives the proof what is fetched, and notes what is wrong instead of ending at it."""

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self._doubted = set[Frame]()
        self._found = dict[Frame, str]()
        self.bytes_needed = proof.bytes_needed
        self.take = proof.take

    def deliver(self, frame: Frame, stored: bytes) -> None:
        try:
            self._proof.deliver(frame, stored)
        except (CorruptError, FormatError) as error:
            if frame not in self._doubted:  # it comes once more, for the way may be to blame
                self._doubted.add(frame)
                raise
            self._found[frame] = str(error)

    def damages(self) -> list[Damage]:
        """Return what is wrong, when all was delivered: frames in order, then files that whole frames do not make."""
        damages, named = list[Damage](), set[bytes]()
        for frame, found in sorted(self._found.items()):
            paths = self._proof.paths(frame)
            named.update(paths)
            key = f"bytes {frame.offset} to {frame.offset + frame.length - 1}"
            damages.append(Damage(key, found, paths=paths[:SHOWN], more=len(paths[SHOWN:])))
        unlike = (one for one in self._proof.unlike() if one[0] not in named)
        return damages + [Damage(shown(path), found, paths=[path]) for path, found in unlike]
