"""A type for each thing that is named by its SHA-256, so that they never mix.

Invariant: a digest is `sha256:` and 64 lower-case hex digits; a `PackName` is the bare digits, as in its key.
Not here: hashing files and trees (the core).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import NewType, TypeVar

from sapwood.errors import InvalidInputError

__all__ = [
    "ChunkDigest",
    "ContentDigest",
    "MapDigest",
    "PackName",
    "SnapshotDigest",
    "TreeDigest",
    "digest_of",
    "hex_of",
    "parse_digest",
    "parse_pack_name",
]

TreeDigest = NewType("TreeDigest", str)
ChunkDigest = NewType("ChunkDigest", str)
SnapshotDigest = NewType("SnapshotDigest", str)
MapDigest = NewType("MapDigest", str)
ContentDigest = NewType("ContentDigest", str)
"""Of a fence index without its first line: equal for two file maps of one content in one place."""
PackName = NewType("PackName", str)

_Digest = TypeVar("_Digest", TreeDigest, ChunkDigest, SnapshotDigest, MapDigest, ContentDigest)
_PREFIX = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}\Z")


def parse_digest(kind: Callable[[str], _Digest], text: object) -> _Digest:
    """Return `text` as a digest of `kind`, for instance `parse_digest(TreeDigest, text)`.

    Raises:
        InvalidInputError: `bad-digest`.
    """
    if isinstance(text, str) and text.startswith(_PREFIX) and _HEX.match(text, len(_PREFIX)):
        return kind(text)
    raise InvalidInputError(
        f"{_shown(text)} is not a digest", kind="bad-digest", hint="a digest is sha256: and 64 hex digits"
    )


def parse_pack_name(text: object) -> PackName:
    """Return `text` as the name of a pack.

    Raises:
        InvalidInputError: `bad-digest`.
    """
    if isinstance(text, str) and _HEX.match(text):
        return PackName(text)
    raise InvalidInputError(f"{_shown(text)} is not a pack's name", kind="bad-digest", hint="it is 64 hex digits")


def digest_of(kind: Callable[[str], _Digest], data: bytes) -> _Digest:
    """Hash `data`."""
    return kind(_PREFIX + hashlib.sha256(data).hexdigest())


def hex_of(digest: TreeDigest | ChunkDigest | SnapshotDigest | MapDigest) -> str:
    """Return the 64 hex digits of a digest."""
    return digest.removeprefix(_PREFIX)


def _shown(text: object) -> str:
    """Quote what was found, shortened: it may be anything."""
    found = repr(text)
    return found if len(found) <= 80 else found[:77] + "..."
