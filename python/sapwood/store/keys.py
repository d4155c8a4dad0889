"""The names of objects in a store: docs/format.md, "Store".

Invariant: a key is made only here, from checked names, so nothing that a server says can lead outside the store.
"""

from __future__ import annotations

import re

from sapwood.digests import MapDigest, PackName, SnapshotDigest, TreeDigest, hex_of

__all__ = [
    "ACTIONS",
    "BUILDS",
    "CONDEMNED",
    "FRAGMENTS",
    "IDENTITY",
    "LEASES",
    "LOCKS",
    "MAPS",
    "PACKS",
    "PROBES",
    "PROFILES",
    "REFS",
    "SNAPSHOTS",
    "action_key",
    "action_name",
    "condemned_key",
    "fragment_key",
    "fragment_name",
    "is_condemned_key",
    "is_map_key",
    "is_profile_key",
    "is_snapshot_key",
    "lease_keys",
    "lock_key",
    "lock_number",
    "map_key",
    "moved_key",
    "moved_name",
    "pack_key",
    "pack_name",
    "ref_key",
    "ref_name",
    "ref_profile_key",
    "snapshot_key",
    "tree_profile_key",
]

IDENTITY = "sapwood.json"
BUILDS = "builds.json"
ACTIONS = "actions"
CONDEMNED = "gc"
FRAGMENTS = "index"
LOCKS = "locks"
LEASES = "leases"
MAPS = "maps"
PACKS = "packs"
PROBES = "probe"
PROFILES = "profiles"
REFS = "refs"
SNAPSHOTS = "snapshots"

_ACTION = re.compile(r"actions/([0-9a-f]{64})\.result\Z")
_FRAGMENT = re.compile(r"index/([0-9a-f]{64})\.frag\Z")
_PACK = re.compile(r"packs/([0-9a-f]{64})\.tar\.zst\Z")
_MOVED = re.compile(r"packs/([0-9a-f]{64})\.moved\Z")
_CONDEMNED = re.compile(r"gc/[0-9a-f]{16}\.json\Z")
_LOCK = re.compile(r"locks/(\d{12})\.json\Z")
_MAP = re.compile(r"maps/[0-9a-f]{64}\.jsonl\.zst\Z")
_SNAPSHOT = re.compile(r"snapshots/[0-9a-f]{64}\.json\Z")
_PROFILE = re.compile(r"profiles/(?:trees/[0-9a-f]{64}|refs/.+)\.jsonl\.gz\Z")
_REF = re.compile(r"refs/(.+)\.ref\Z")


def action_key(hexadecimal: str) -> str:
    """Where the result of an action is; its name is the hex of the Action's SHA-256."""
    return f"{ACTIONS}/{hexadecimal}.result"


def action_name(key: str) -> str | None:
    """Return the hex of the action whose result a listed key is, or None if it is none."""
    found = _ACTION.match(key)
    return found.group(1) if found else None


def pack_key(name: PackName) -> str:
    """Where a pack is."""
    return f"{PACKS}/{name}.tar.zst"


def pack_name(key: str) -> PackName | None:
    """Return the name of the pack that a listed key is, or None if it is none."""
    found = _PACK.match(key)
    return PackName(found.group(1)) if found else None


def moved_key(name: PackName) -> str:
    """Where it says where the frames of a pack lie now."""
    return f"{PACKS}/{name}.moved"


def moved_name(key: str) -> PackName | None:
    """Return the name of the pack whose redirect a listed key is, or None if it is none."""
    found = _MOVED.match(key)
    return PackName(found.group(1)) if found else None


def condemned_key(nonce: str) -> str:
    """Where a record of what is condemned is; `nonce` is 16 hex digits."""
    return f"{CONDEMNED}/{nonce}.json"


def is_condemned_key(key: str) -> bool:
    """Say whether a listed key is that of a record of what is condemned."""
    return _CONDEMNED.match(key) is not None


def lease_keys(push: str) -> tuple[str, str]:
    """Where the lease of a push is: what says when it began, and what says that it lives."""
    return f"leases/{push}.began", f"leases/{push}.live"


def map_key(digest: MapDigest) -> str:
    """Where a file map's fence index is."""
    return f"maps/{hex_of(digest)}.jsonl.zst"


def is_map_key(key: str) -> bool:
    """Say whether a listed key is that of a file map's fence index."""
    return _MAP.match(key) is not None


def snapshot_key(digest: SnapshotDigest) -> str:
    """Where a snapshot is."""
    return f"snapshots/{hex_of(digest)}.json"


def is_snapshot_key(key: str) -> bool:
    """Say whether a listed key is that of a snapshot."""
    return _SNAPSHOT.match(key) is not None


def fragment_key(name: str) -> str:
    """Where an index fragment is; its name is the hex of its SHA-256."""
    return f"{FRAGMENTS}/{name}.frag"


def fragment_name(key: str) -> str | None:
    """Return the name of the fragment that a listed key is, or None if it is none."""
    found = _FRAGMENT.match(key)
    return found.group(1) if found else None


def lock_key(number: int) -> str:
    """Where the lock on refs of this number is."""
    return f"{LOCKS}/{number:012}.json"


def lock_number(key: str) -> int | None:
    """Return the number of the lock that a listed key is, or None if it is none."""
    found = _LOCK.match(key)
    return int(found.group(1)) if found else None


def ref_key(name: str) -> str:
    """Where a ref is."""
    return f"{REFS}/{name}.ref"


def ref_name(key: str) -> str | None:
    """Return the name of the ref that a listed key is, unchecked, or None if it is none."""
    found = _REF.match(key)
    return found.group(1) if found else None


def tree_profile_key(tree: TreeDigest) -> str:
    """Where it says what was read of a tree."""
    return f"{PROFILES}/trees/{hex_of(tree)}.jsonl.gz"


def ref_profile_key(name: str) -> str:
    """Where it says what was read of the trees that a ref named."""
    return f"{PROFILES}/refs/{name}.jsonl.gz"


def is_profile_key(key: str) -> bool:
    """Say whether a listed key is that of a profile."""
    return _PROFILE.match(key) is not None
