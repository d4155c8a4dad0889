"""What this machine keeps of the trees it has mounted: with it they can be mounted while their store is away, or gone.

Invariant: a snapshot and a fence index are named by their digests and proved when they are read; what a ref named, and
when, is this machine's own word. All together have a bound, beyond which what was used longest ago goes. What cannot be
kept costs a mount without the store, nothing else. Not here: pages of file maps and contents, which are in the cache.
Bytes: docs/format.md, "Cache".
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import NamedTuple

from sapwood._core.filemap import FileMap
from sapwood.digests import SnapshotDigest, TreeDigest, parse_digest
from sapwood.errors import SapwoodError
from sapwood.profile import Profile
from sapwood.store.address import Address
from sapwood.store.seen import ref_hash
from sapwood.store.snapshot import Snapshot
from sapwood.store.tocs import KeptTexts

__all__ = ["Known", "Remembered", "date"]


class Known(NamedTuple):
    """A snapshot, its file map, that as it lies in the store, and when the ref named it, in seconds since 1970.

    A pinned address names the same at all times: then there is no when.
    """

    snapshot: Snapshot
    stored: bytes
    file_map: FileMap
    asked: int | None

    @property
    def shown(self) -> str:
        """What it is, for people."""
        when = "" if self.asked is None else f", as of {date(self.asked)}"
        return f"snapshot {self.snapshot.digest[:19]}{when}"


class Remembered:
    """What is kept of one address of a store, by its URL and ref as they were given."""

    def __init__(self, cache_dir: Path, address: Address) -> None:
        self._kept = KeptTexts(cache_dir, "trees")
        self._address = address
        self._ref = f"{ref_hash(address.store_url, address.ref)}.ref"

    def keep(self, snapshot: Snapshot, stored_map: bytes) -> None:
        """Keep what the store has just said that the address names."""
        self._kept.keep(snapshot.digest, snapshot.encode())
        self._kept.keep(snapshot.map, stored_map)
        if self._address.pin is None:
            said = {"snapshot": snapshot.digest, "asked": int(time.time())}
            self._kept.write(self._ref, json.dumps(said).encode())

    def find(self) -> Known | None:
        """Return what the address named when it was last mounted, if that is kept, whole."""
        digest, asked = self._named()
        data = self._kept.read(digest) if digest else None
        if digest is None or data is None:
            return None
        with contextlib.suppress(SapwoodError):
            snapshot = Snapshot.decode(data, digest, url=self._address.store_url)
            stored = self._kept.read(snapshot.map)
            if stored is not None:
                return Known(snapshot, stored, FileMap(stored, snapshot.map, snapshot.map_size), asked)
        return None

    def _named(self) -> tuple[SnapshotDigest | None, int | None]:
        if self._address.pin is not None:
            return self._address.pin, None
        try:
            said = json.loads(self._kept.look(self._ref) or b"null")
            return parse_digest(SnapshotDigest, said["snapshot"]), int(said["asked"])
        except (SapwoodError, ValueError, TypeError, KeyError):
            return None, None

    def keep_profile(self, tree: TreeDigest, profile: Profile) -> None:
        """Keep what was recorded of a tree, or of one like it."""
        self._kept.write(_profile(tree), profile.encode())

    def profile(self, tree: TreeDigest) -> Profile | None:
        """Return what is kept of what was recorded of a tree."""
        data = self._kept.look(_profile(tree))
        try:
            return None if data is None else Profile.decode(data, "the kept profile")
        except SapwoodError:
            return None


def _profile(tree: TreeDigest) -> str:
    return f"{tree.removeprefix('sha256:')}.profile"


def date(seconds: int) -> str:
    """Return a time of a clock as people and programs read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
