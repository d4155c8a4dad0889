"""TOCs and indexes of archives on servers, kept by this machine: the second opening asks for the archive's tail only.

Invariant: what is kept is named by its digest, and whoever reads it proves that; a TOC is that of the archive whose
URL, size, version and tail are those it was kept with. All together have no more than `MOST` bytes: what was used
longest ago goes first. What cannot be read or written costs a request, never a wrong byte.
Not here: what a TOC or an index means (the core). Bytes: docs/format.md, "Cache".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from sapwood.errors import SapwoodError
from sapwood.store import kept

__all__ = ["MOST", "KeptTexts", "KeptToc"]

MOST = 1 << 30
"""Bytes of all that is kept, so many for the largest TOC that is read."""

# What a small file takes, at least.
_BLOCK = 4096
_POINTER = ".toc"


class KeptTexts:
    """What is kept in one folder of a cache, as it lay in its archive, index or store, by the digest of its text."""

    def __init__(self, cache_dir: Path, folder: str = "archives") -> None:
        self.folder = cache_dir / folder

    def read(self, digest: str) -> bytes | None:
        """Return what is kept by that name, unproved."""
        return self.look(self._name(digest))

    def look(self, name: str) -> bytes | None:
        """Return what a file says, and note that it was used."""
        path = self.folder / name
        with contextlib.suppress(SapwoodError, OSError):
            data = kept.read(path)
            os.utime(path)
            return data
        return None

    def has(self, digest: str) -> bool:
        """Say whether something is kept by that name."""
        return (self.folder / self._name(digest)).exists()

    def keep(self, digest: str, stored: bytes) -> None:
        """Keep `stored`."""
        self.write(self._name(digest), stored)

    def write(self, name: str, data: bytes) -> None:
        """Keep a file for which there is room at all, and of the others what still has room."""
        if len(data) > MOST:
            return
        with contextlib.suppress(SapwoodError, OSError):
            kept.write(self.folder / name, data)
            self.make_room(name)

    def forget(self, digest: str) -> None:
        """Keep it no longer."""
        self.remove(self._name(digest))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()

    def make_room(self, newest: str) -> None:
        """Remove the files that were used longest ago, until the others have no more than `MOST` bytes."""
        files = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # others use it, too
                    state = entry.stat(follow_symlinks=False)
                    files.append((entry.name != newest, -state.st_mtime_ns, max(state.st_size, _BLOCK), entry.name))
        total = 0
        for _, _, size, name in sorted(files):
            total += size
            if total > MOST:
                self.remove(name)

    @staticmethod
    def _name(digest: str) -> str:
        return digest.removeprefix("sha256:")


class KeptToc:
    """Which TOC one version of an archive has, and that TOC, if they are kept."""

    def __init__(self, cache_dir: Path, known: str, tail: bytes) -> None:
        """`known` is what is known of the archive before its TOC, `tail` its last bytes, footer included."""
        name = hashlib.sha256(known.encode("utf-8", "surrogateescape") + b"\0" + tail).hexdigest()
        self._pointer = name + _POINTER
        self._texts = KeptTexts(cache_dir)

    def read(self) -> tuple[str, bytes] | None:
        """Return the TOC's digest, and the TOC as it lies in an archive: unproved."""
        name = self._texts.look(self._pointer)
        if name is None or len(name) != hashlib.sha256().digest_size:
            return None
        digest = f"sha256:{name.hex()}"
        stored = self._texts.read(digest)
        return None if stored is None else (digest, stored)

    def keep(self, digest: str, stored: bytes) -> None:
        """Keep the TOC and its digest; a cache that cannot be written costs the next opening a request."""
        self._texts.keep(digest, stored)
        if self._texts.has(digest):
            self._texts.write(self._pointer, bytes.fromhex(digest.removeprefix("sha256:")))

    def forget(self) -> None:
        """Keep both no longer."""
        if (found := self.read()) is not None:
            self._texts.forget(found[0])
        self._texts.remove(self._pointer)
