"""The names of objects in a store: docs/format.md, "Store".

Invariant: a key is made only here, from checked names, so nothing that a server says can lead outside the store.
"""

from __future__ import annotations

import re

from sapwood.digests import MapDigest, PackName, SnapshotDigest, hex_of

__all__ = [
    "FRAGMENTS",
    "IDENTITY",
    "PACKS",
    "REFS",
    "fragment_key",
    "fragment_name",
    "map_key",
    "pack_key",
    "pack_name",
    "ref_key",
    "ref_name",
    "snapshot_key",
]

IDENTITY = "sapwood.json"
FRAGMENTS = "index"
PACKS = "packs"
REFS = "refs"

_FRAGMENT = re.compile(r"index/([0-9a-f]{64})\.frag\Z")
_PACK = re.compile(r"packs/([0-9a-f]{64})\.tar\.zst\Z")
_REF = re.compile(r"refs/(.+)\.ref\Z")


def pack_key(name: PackName) -> str:
    """Where a pack is."""
    return f"{PACKS}/{name}.tar.zst"


def pack_name(key: str) -> PackName | None:
    """Return the name of the pack that a listed key is, or None if it is none."""
    found = _PACK.match(key)
    return PackName(found.group(1)) if found else None


def map_key(digest: MapDigest) -> str:
    """Where a file map's fence index is."""
    return f"maps/{hex_of(digest)}.jsonl.zst"


def snapshot_key(digest: SnapshotDigest) -> str:
    """Where a snapshot is."""
    return f"snapshots/{hex_of(digest)}.json"


def fragment_key(name: str) -> str:
    """Where an index fragment is; its name is the hex of its SHA-256."""
    return f"{FRAGMENTS}/{name}.frag"


def fragment_name(key: str) -> str | None:
    """Return the name of the fragment that a listed key is, or None if it is none."""
    found = _FRAGMENT.match(key)
    return found.group(1) if found else None


def ref_key(name: str) -> str:
    """Where a ref is."""
    return f"{REFS}/{name}.ref"


def ref_name(key: str) -> str | None:
    """Return the name of the ref that a listed key is, unchecked, or None if it is none."""
    found = _REF.match(key)
    return found.group(1) if found else None
