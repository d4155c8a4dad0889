"""Objects of a local store, read with nothing but docs/format.md."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path


def chunks_of(fragment: bytes) -> set[bytes]:
    """Return the SHA-256 of every chunk that an index fragment names."""
    magic, version, _, packs, chunks, _, _ = struct.unpack_from("<8s6I", fragment)
    assert (magic, version) == (b"SAPWFRG\n", 1)
    start = 32 + 32 * packs
    return {fragment[at : at + 32] for at in range(start, start + 56 * chunks, 56)}


def assert_whole(store: Path) -> None:
    """Every object that is named by the digest of its bytes has these bytes, and nothing is left in `tmp`."""
    for path in store.rglob("*"):
        if path.is_file() and path.parent.name in ("packs", "index", "snapshots"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.split(".")[0], path
    assert [path.name for path in (store / "tmp").glob("*")] == []
