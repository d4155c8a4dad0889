"""What a server notes of its mount, beside the log, for `sapwood mounts` and whoever waits for it.

Invariant: it is written when it has changed, and again when the disk did not take it; of a mount that is there a disk
that takes nothing ends nothing. Not here: reading notes (`table`).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from sapwood._core.filemap import FileMap
from sapwood.mount import changes, table
from sapwood.mount.saying import Complaints
from sapwood.store.naming import without_query

__all__ = ["Note"]


class Note:
    """The note of the mount of `address` at `place`, of the tree that `left` tells of, the heritage of a successor."""

    def __init__(
        self,
        address: str,
        place: Path,
        cache_dir: Path,
        *,
        holder: int | None,
        left: dict[str, Any],
        file_map: FileMap,
        writable: bool,
    ) -> None:
        self.place = place
        self.cache_dir = cache_dir
        self.complaints = Complaints()
        self._address = without_query(address)
        self._holder = holder
        self._is_written = False
        # Fetchers write, too.
        self._writing = threading.Lock()
        self._said: dict[str, object] = {
            "snapshot": left.get("snapshot"),
            "map": left["map"],
            "map_size": left.get("map_size"),
            "changes": os.fsdecode(changes.directory_of(place)) if writable else None,
            "asked": left.get("asked"),
            "image": left.get("image", False),
            "away": left.get("away", ""),
            "bytes": file_map.bytes,
            "problem": "",
            "lacking": None,
            "blocked_s": 0,
            "lost": "",
        }

    def write(self, **news: object) -> None:
        """Write it, with what is new in it.

        Raises:
            UnavailableError, DeniedError: the disk.
        """
        with self._writing:
            self._is_written = False
            self._said.update(news)
            table.record(self.cache_dir, self.place, self._address, self._holder, self._said)
            self._is_written = True

    def hint(self, **news: object) -> None:
        """Write it unless it says so already, if the disk takes it."""
        if not self._is_written or self._said != {**self._said, **news}:
            with self.complaints.heard():
                self.write(**news)
