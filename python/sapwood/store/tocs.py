"""TOCs of archives on servers, kept by this machine: the second opening asks for the archive's tail only.

Invariant: a TOC is that of the archive whose URL, size, version and tail are those it was kept with, and whole; else
it is fetched anew. What it says is proved as if it had just come, and one whose archive shows damage is forgotten.
Not here: what a TOC means (the core). Bytes: docs/format.md, "Cache".
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from sapwood.errors import SapwoodError
from sapwood.store import kept

__all__ = ["KeptToc"]

_SUM = 32


class KeptToc:
    """Where the TOC of one version of an archive is kept."""

    def __init__(self, cache_dir: Path, known: str, tail: bytes) -> None:
        """`known` is what is known of the archive before its TOC, `tail` its last bytes, footer included."""
        name = hashlib.sha256(known.encode("utf-8", "surrogateescape") + b"\0" + tail).hexdigest()
        self._place = cache_dir / "archives" / name

    def read(self, length: int) -> bytes | None:
        """Return the TOC as it lies in the archive, `length` bytes, if it is kept."""
        with contextlib.suppress(SapwoodError, FileNotFoundError):
            data = kept.read(self._place)
            stored = data[_SUM:]
            if len(stored) == length and hashlib.sha256(stored).digest() == data[:_SUM]:
                return stored
        return None

    def keep(self, stored: bytes) -> None:
        """Keep the TOC; a cache that cannot be written costs the next opening a request."""
        with contextlib.suppress(SapwoodError):
            kept.write(self._place, hashlib.sha256(stored).digest() + stored)

    def forget(self) -> None:
        """Keep it no longer."""
        with contextlib.suppress(OSError):
            self._place.unlink()
