"""Snapshots and digests of nothing in particular."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from sapwood.digests import MapDigest, TreeDigest
from sapwood.store import Snapshot

_Digest = TypeVar("_Digest")


def digest(kind: Callable[[str], _Digest], of: str | bytes) -> _Digest:
    """Return the digest of some text."""
    return kind("sha256:" + hashlib.sha256(of.encode() if isinstance(of, str) else of).hexdigest())


def make_snapshot(**changes: Any) -> Snapshot:
    """Return a snapshot that differs from a plain one by `changes`."""
    plain = Snapshot(
        tree=digest(TreeDigest, "tree"),
        tree_size=152,
        map=digest(MapDigest, "map"),
        map_size=300,
        content=None,
        entries=3,
        bytes=3,
        packs=(),
        created="2024-02-29T12:00:00.5Z",
        user="ann",
        host="build-7",
        source="/src",
        parent=None,
        program="sapwood 0.1.0",
    )
    return replace(plain, **changes)
